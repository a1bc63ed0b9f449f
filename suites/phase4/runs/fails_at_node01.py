"""A conftest of a run whose second machine can't be made: put beside its tests.

Everything is as always but for the journal that the driver is given: where the machine ``node01`` is about to be
started, what would be its entry is refused, as on a full disk. By then the first machine is there.
"""

from __future__ import annotations

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.journal import Entry, Journal
from pytest_ai_how.progress import Progress

FAILS = "node01"
# The last that a driver writes down before a machine runs.
LAST = "process"


class Failing(Journal):
    """A journal without room for that machine."""

    def of(self, step: str) -> Journal:
        """The same, for the parts of one step."""
        return Failing(self.path, step)

    def intend(self, kind: str, **data: str) -> Entry:
        """Refuse that machine's entry."""
        if kind == LAST and data["cookie"].endswith(f"/{FAILS}"):
            raise LeaseError(FAILS, "made to fail on purpose when it was about to be started")
        return super().intend(kind, **data)


class FailingDriver:
    """The driver of the configuration, on such a journal."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> object:
        return getattr(self._driver, name)

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Make the machines as far as the journal lets it."""
        self._driver.up(config, Failing(journal.path, journal.step))


def pytest_ai_how_driver(config: ClusterConfig, progress: Progress) -> FailingDriver:
    """The driver of this run."""
    return FailingDriver(choose_driver(config, progress))
