"""A cluster that is up, and the product's own checks called on it as pytest calls them."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from pytest_ai_how.cli.life import bring_up
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.facts import Readings
from pytest_ai_how.image import ensure_images
from pytest_ai_how.lease import reap
from pytest_ai_how.limits import load_limits
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Silent
from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.monitoring import Monitoring
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import JobOptions, JobRecord, SacctRecord, Slurm
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result
from suites.phase1._access import administrators
from suites.phase6._inventory import inventory

NAME, BRIDGE, SUBNET = "aihowflt", "aihow-flt", "10.88.0"
CONFIG = f"""\
version: 1
name: {NAME}
driver: nspawn
network: {{subnet: {SUBNET}.0/24, bridge: {BRIDGE}}}
nodes:
  - {{name: controller, roles: [controller], address: {SUBNET}.10, cpus: 1, memory: 1024}}
  - {{name: node01, roles: [compute], address: {SUBNET}.11, cpus: 2, memory: 1024, gpus: {{kind: simulated, count: 2}}}}
  - {{name: node02, roles: [compute], address: {SUBNET}.12, cpus: 2, memory: 1024, gpus: {{kind: simulated, count: 2}}}}
slurm:
  cluster: {NAME}
  partitions:
    - {{name: gpu, nodes: [node01, node02], default: true}}
    - {{name: debug, nodes: [node01, node02]}}
containers: {{images: [base]}}
monitoring: {{kind: prometheus, scrape_interval: 2s}}
"""
#: Seconds that a check waits for a job here: several times what a job takes, and not the minute it has on a site.
PATIENCE = 8.0
Check = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check. ``figure`` is red, too: by a measured value against its limit, not by a fact."""

    kind: Literal["green", "red", "figure", "broken"]
    text: str = ""

    @property
    def first_line(self) -> str:
        """What a report shows first."""
        return self.text.partition("\n")[0]


class Impatient(Slurm):
    """Slurm for jobs that may never end: it gives up sooner."""

    def srun(self, *argv: str, within: float = 60.0, **options: Unpack[JobOptions]) -> Result:
        """As :meth:`Slurm.srun`."""
        return super().srun(*argv, within=min(within, PATIENCE), **options)

    def until(self, id: int, *states: str, within: float = 60.0) -> JobRecord:
        """As :meth:`Slurm.until`."""
        return super().until(id, *states, within=min(within, PATIENCE))

    def ended(self, *ids: int, within: float | Deadline = 60.0) -> dict[int, JobRecord]:
        """As :meth:`Slurm.ended`."""
        return super().ended(*ids, within=within if isinstance(within, Deadline) else min(within, PATIENCE))

    def wait_all(self, ids: Iterable[int], within: float = 60.0) -> tuple[SacctRecord, ...]:
        """As :meth:`Slurm.wait_all`."""
        return super().wait_all(ids, min(within, PATIENCE))


@dataclass(frozen=True)
class Live:
    """The cluster and what checks ask for by name."""

    file: Path
    cluster: Cluster
    slurm: Slurm

    def __getitem__(self, name: str) -> Node:
        """One of its machines."""
        return self.cluster[name]

    @property
    def controller(self) -> Node:
        """The machine of slurmctld."""
        return self.cluster.controller

    def judge(self, check: Check, **more: Any) -> Verdict:
        """Call a check and return its verdict, as the plugin would give it; ``more`` is what it asks for besides."""
        evidence = Evidence()
        known: dict[str, Any] = {
            "cluster": self.cluster,
            "slurm": self.slurm,
            "registry": Registry(self.cluster),
            "storage": Storage(self.cluster),
            "apptainer": Apptainer(self.cluster),
            "built_images": tuple(ensure_images(["base"], Silent()).values()),
            "evidence": evidence,
            "facts": Facts(Readings(self.cluster.nodes), evidence),
            "current": Facts(Readings(self.cluster.nodes), evidence),
            "culprit": Culprit(evidence),
            "cluster_config": self.cluster.config,
            "measure": Measurements(load_limits("local"), evidence),
            "limits": load_limits("local"),
            "monitoring": Monitoring(self.cluster),
            "mpi_image": "",  # programs of MPI run on the nodes themselves
            "run_id": uuid.uuid4().hex[:8],
            **more,
        }
        wanted = inspect.signature(check).parameters
        with ExitStack() as stack:
            if "administrators" in wanted:
                known["administrators"] = administrators(self.cluster)
                for node in known["administrators"].values():
                    stack.callback(node.transport.close)
            if "scratch" in wanted:
                known["scratch"] = known["storage"].scratch(known["run_id"])
                stack.callback(known["storage"].discard, known["scratch"])
            return verdict_of(check, {name: known[name] for name in wanted}, evidence)

    def settle(self) -> None:
        """Do what an administrator does after a fault is mended, and wait until all nodes are idle, with no reason set.

        Jobs that wait for what was broken are cancelled, nodes that Slurm took out are resumed.
        """
        seen = "nothing"
        self.controller.run("scancel", f"--user={self.slurm.user}", check=False)

        def settled() -> bool:
            nonlocal seen
            nodes = self.slurm.nodes().values()
            seen = ", ".join(f"{node.name} {node.state} {node.reason}" for node in nodes)
            for node in nodes:
                if node.reason:
                    self.controller.run("scontrol", "update", f"nodename={node.name}", "state=resume", check=False)
            return all(node.state == "IDLE" and not node.reason for node in nodes)

        # Slurm asks a node whose word it missed again only after a while.
        wait_for(settled, within=120.0, what="idle again", where=NAME, at_most=0.2, last_seen=lambda: seen)


def verdict_of(check: Check, wanted: dict[str, Any], evidence: Evidence) -> Verdict:
    """Call a check with what it wants, and say what came of it, as the plugin would."""
    try:
        check(**wanted)
    except LimitExceeded as error:
        return Verdict("figure", str(error))
    except AssertionError as error:
        return Verdict("red", str(error))
    except Exception as error:  # noqa: BLE001  whatever else a check raises is "broken", and that is a verdict
        return Verdict("broken", f"{error}")
    assert evidence.samples, f"{check} is green and attached no evidence"
    return Verdict("green")


@contextmanager
def live_cluster(folder: Path) -> Iterator[Live]:
    """Bring it up for the time of the block; afterwards nothing of it is left on this host."""
    file = folder / "faults.yaml"
    file.write_text(CONFIG)
    before = inventory(NAME)
    config = load_config(str(file))
    driver = choose_driver(config, Silent())
    try:
        bring_up(config, driver, Silent())
        cluster = Cluster(config, [Node(node, driver.transport(config, node.name)) for node in config.nodes])
        try:
            yield Live(file, cluster, Impatient(cluster, "faults"))
        finally:
            cluster.close()
    finally:
        reap.take_down(NAME, "faults-end")
    left: list[str] = []

    def gone() -> bool:
        # Machines of others may come while we look; what they have is theirs as soon as it is complete.
        left[:] = sorted(inventory(NAME) - before)
        return not left

    wait_for(gone, within=10.0, what="as before", last_seen=lambda: "; ".join(left))
