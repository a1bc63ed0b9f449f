"""What all processes of a run have in common: the orders that the controller gives, and their use of the lease."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import Driver, Power
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.progress import PlainLines
from pytest_ai_how.report.redact import Redactor
from pytest_ai_how.skin.settings import Settings

if TYPE_CHECKING:
    from pytest_ai_how.bringup import Bringup


@dataclass(frozen=True, slots=True)
class Orders:
    """What the controller decided for all processes: same run, same configuration, same absent capabilities.

    ``driver`` is the one that was chosen, ``folder`` the run's folder of reports, ``absent`` reasons by capability,
    ``known`` the capabilities that other plugins added. ``ordered`` says that several workers are handed the tests in
    our order.
    """

    settings: Settings
    config: ClusterConfig
    run_id: str
    driver: str
    folder: Path
    absent: Mapping[str, str]
    known: tuple[str, ...] = ()
    ordered: bool = False

    def to_json(self) -> str:
        """As text, for an xdist worker."""
        data = {
            "settings": asdict(self.settings),
            "config": self.config.model_dump_json(),
            "run_id": self.run_id,
            "driver": self.driver,
            "folder": str(self.folder),
            "absent": dict(self.absent),
            "known": list(self.known),
            "ordered": self.ordered,
        }
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Orders:
        """What :meth:`to_json` wrote."""
        data = json.loads(text)
        return cls(
            Settings(**data["settings"]),
            ClusterConfig.model_validate_json(data["config"]),
            data["run_id"],
            data["driver"],
            Path(data["folder"]),
            data["absent"],
            tuple(data["known"]),
            data["ordered"],
        )

    @property
    def parts(self) -> Path:
        """Where the processes of the run put what the controller makes the report of."""
        return self.folder / "parts"

    @property
    def consoles(self) -> Path:
        """Where what the machines said is kept, when they are gone."""
        return self.folder / "consoles"

    def why_absent(self, capability: str) -> str:
        """Why the cluster lacks ``capability``; empty when it has it."""
        return self.absent.get(capability, "")


class ToPerson:
    """Progress on a copy of standard error, until it is closed.

    pytest captures standard error while tests run; a copy made before still reaches the person who waits.
    """

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(_standard_error()), "w")
        self._lines = PlainLines(self._stream)

    def say(self, subject: str, text: str) -> None:
        """One line at once."""
        self._lines.say(subject, text)

    def close(self) -> None:
        """Give the copy back."""
        self._stream.close()


class Crew:
    """One process's part in a run: its orders, its lease, and what it makes of the cluster when a test asks."""

    def __init__(
        self,
        pytest_config: pytest.Config,
        orders: Orders,
        lease: Lease,
        driver: Driver | None = None,
        progress: ToPerson | None = None,
    ) -> None:
        self.orders, self.lease = orders, lease
        self.redactor = Redactor()
        self._hook = pytest_config.hook
        self._driver = driver
        self.progress = progress or ToPerson()

    @property
    def worker(self) -> str:
        """The name of the xdist worker (``gw0``), or nothing."""
        return os.environ.get("PYTEST_XDIST_WORKER", "")

    def driver(self) -> Driver:
        """The driver: on the controller the one chosen, on a worker the same again."""
        if self._driver is None:
            chosen = self.orders.config.model_copy(update={"driver": self.orders.driver})
            self._driver = self._hook.pytest_ai_how_driver(config=chosen, progress=self.progress)
        assert self._driver is not None  # our own implementation of the hook returns one or raises
        return self._driver

    def bringup(self, config: ClusterConfig) -> Bringup:
        """What makes the cluster of ``config`` ready."""
        made: Bringup = self._hook.pytest_ai_how_bringup(
            config=config, driver=self.driver(), lease=self.lease, progress=self.progress
        )
        return made

    def consoles(self) -> Mapping[str, Path]:
        """The file that holds each machine's console, by node; none of machines that nobody made, or that have none."""
        driver = self.driver()
        if not isinstance(driver, Power):
            return {}
        try:
            return driver.consoles(self.orders.config)
        except AiHowError:  # there is no cluster yet
            return {}

    def learn_secrets(self) -> None:
        """Keep the cluster's secrets out of whatever this process writes from now on; a driver without any has none."""
        secrets: Callable[[ClusterConfig], Iterable[bytes]] | None = getattr(self.driver(), "secrets", None)
        self.redactor.register(*(secrets(self.orders.config) if secrets else ()))

    def close(self) -> None:
        """End this process's part; the lease stays."""
        self.progress.close()


def _standard_error() -> int:
    stream = sys.__stderr__
    return stream.fileno() if stream is not None and not stream.closed else 2
