"""A second, small cluster beside the one of the run: started, stopped and killed as its user would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.protocol import Driver, Power
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease import reap
from pytest_ai_how.lease.journal import Entry
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.record import Record
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.machines import Machines
from pytest_ai_how.node import Node
from pytest_ai_how.pci import held
from pytest_ai_how.shell import Result

from ..phase6._inventory import inventory
from ..phase6._nested import as_yaml, changed, environment, execute, free
from ..phase6._slurm_units import boot
from ._facts import Facts
from .runs.fails_at_node01 import LAST

RUNS = Path(__file__).parent / "runs"
ON, OFF = "controller", "node01"
# Seconds: what an emulated machine takes, ten times; and what a killed run is given to be made so far.
_WITHIN, _MADE = 600.0, 300.0
#: Where the small clusters look for a subnet, by their purpose: workers make one of each at the same time.
FIRST_SUBNET = MappingProxyType({"life": 161, "anew": 181})


@dataclass(frozen=True)
class Small:
    """A cluster of one machine that runs and one that does not start by itself, with its files in ``folder``."""

    config: ClusterConfig
    driver: Driver
    folder: Path
    run_id: str

    @property
    def power(self) -> Power:
        """The driver as what switches machines. Raises :class:`AiHowError` when it can't."""
        if not isinstance(self.driver, Power):
            raise AiHowError(f"driver {self.driver.name}", "has no means to switch machines off and on")
        return self.driver

    def up(self) -> Result:
        """Start it as from the command line, and keep it."""
        return self._execute("-m", "pytest_ai_how", "up", f"--cluster={self.file}")

    def down(self) -> Result:
        """Destroy it as from the command line."""
        return self._execute("-m", "pytest_ai_how", "down", f"--cluster={self.file}")

    def pytest(self, *options: str) -> Result:
        """Run pytest on it."""
        return self._execute(*self._pytest(options))

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """A run of pytest to be killed; the process and its output file are closed at the end."""
        with (self.folder / "killed.log").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *self._pytest(options)],
                cwd=self.folder,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    @property
    def file(self) -> Path:
        """The configuration's file."""
        return self.folder / "cluster.yaml"

    @property
    def record(self) -> Record | None:
        """The cluster's record; None when there is no cluster."""
        return reap.status(self.config.name).record

    @property
    def pending(self) -> tuple[Entry, ...]:
        """What the cluster's journal has to undo."""
        return reap.status(self.config.name).pending

    def inventory(self) -> frozenset[str]:
        """What the host holds of the kinds that clusters are made of."""
        claims = (f"claim on {claim.address} by {claim}" for claim in held())
        return inventory(self.config.name) | frozenset(claims)

    def facts(self, *, answering: bool = True) -> Facts:
        """What there is of it now. Machines that need not answer yet are not asked which boot this is."""
        states = {node.name: self.power.state(self.config, node.name) for node in self.config.nodes}
        return Facts(
            states,
            frozenset((one.pid, one.start, one.name) for one in marked(cookie(self.config.name))),
            tuple((entry.kind, " ".join(f"{k}={v}" for k, v in entry.data.items())) for entry in self.pending),
            {name: self._boot(name) for name, state in states.items() if answering and state == "running"},
            tuple(claim for claim in held() if claim.cluster == self.config.name),
        )

    def node(self, name: str = ON) -> Node:
        """One of its machines, over a connection of its own."""
        [config] = [node for node in self.config.nodes if node.name == name]
        return Node(config, self.driver.transport(self.config, name))

    def _boot(self, name: str) -> str:
        node = self.node(name)
        try:
            return boot(node)
        finally:
            node.transport.close()

    def machines(self) -> Machines:
        """Its machines, to be switched on with a wait for ssh."""
        return Machines(self.driver, Cluster(self.config, [self.node(node.name) for node in self.config.nodes]))

    def note(self, name: str) -> list[str]:
        """The words of a note that a run left; none when it left none."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    @contextmanager
    def nothing_left(self) -> Iterator[None]:
        """Whatever happens in the block: what it leaves of the cluster is taken down."""
        try:
            yield
        finally:
            reap.take_down(self.config.name, f"{self.run_id}-small")

    def forget(self) -> None:
        """Remove the notes of earlier runs."""
        for path in self.folder.glob("*"):
            if path.is_file() and not path.suffix:
                path.unlink()

    def _pytest(self, options: Sequence[str]) -> list[str]:
        # The configuration's file is what makes the folder the root of the run.
        return [
            *("-m", "pytest", "cluster_runs.py", "-c", str(self.folder / "pytest.ini"), "-p", "no:cacheprovider"),
            *("--color=no", f"--cluster={self.file}", f"--reports={self.folder / 'reports'}", *options),
        ]

    def _execute(self, *argv: str) -> Result:
        return execute([sys.executable, *argv], self.folder, environment(os.environ), _WITHIN)


def small_config(config: ClusterConfig, driver: Driver, run_id: str, purpose: str = "life") -> ClusterConfig:
    """The configuration of a small cluster, in a subnet that is free. Nothing but machines: no Slurm, no storage.

    Each ``purpose`` of :data:`FIRST_SUBNET` has a cluster of its own.
    """
    name = f"{purpose}-{run_id[-4:]}"

    def make(subnet: str) -> ClusterConfig:
        node = {"cpus": 1, "memory": 512, "disk": 4}
        return changed(
            config,
            name=name,
            driver=driver.name,
            network={"subnet": f"{subnet}.0/24", "bridge": f"ah-{name}"},
            nodes=[
                {"name": ON, "roles": ["controller"], "address": f"{subnet}.10", **node},
                {"name": OFF, "roles": ["compute"], "address": f"{subnet}.11", "auto_start": False, **node},
            ],
            storage={"kind": "none"},
            slurm=None,
            containers={"runtime": "none", "images": []},
            bringup="boot",
            absent=[],
        )

    return free(make, driver, FIRST_SUBNET[purpose], name)


def both_on(config: ClusterConfig) -> ClusterConfig:
    """The same with both machines starting by themselves."""
    nodes = [{**node, "auto_start": True} for node in config.model_dump(mode="json", exclude_none=True)["nodes"]]
    return changed(config, nodes=nodes)


def prepared(config: ClusterConfig, driver: Driver, folder: Path, run_id: str, conftest: str = "") -> Small:
    """The folder of a small cluster with its configuration and the tests of its runs."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Small(config, driver, folder, run_id)
    made.file.write_text(as_yaml(config))
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\npython_files = cluster_runs.py\n")
    shutil.copyfile(RUNS / "cluster_runs.py", folder / "cluster_runs.py")
    if conftest:
        shutil.copyfile(RUNS / conftest, folder / "conftest.py")
    return made


def kill_with_workers(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a run and all that it started: it has a session of its own, machines have left it."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def await_note(small: Small, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a run's note. Raises :class:`AiHowError` with its output when it ends without one."""
    _await(small, process, f"note {name}", lambda: bool(small.note(name)))


def await_made(small: Small, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run is about to start a machine: its entry is in the journal, and no step is done yet."""
    _await(small, process, "a machine being made", lambda: any(entry.kind == LAST for entry in small.pending))


def _await(small: Small, process: subprocess.Popen[bytes], what: str, probe: Callable[[], bool]) -> None:
    def there() -> bool:
        if probe():
            return True
        if process.poll() is not None:
            said = (small.folder / "killed.log").read_text(errors="replace")
            raise AiHowError("localhost", f"the run ended with {process.returncode} before it was killed:\n{said}")
        return False

    wait_for(there, within=_MADE, what=what, every=0.01, at_most=0.05)
