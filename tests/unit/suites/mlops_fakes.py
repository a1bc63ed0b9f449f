"""A trainer whose jobs left what real ones did (tests/data/mlops), or edited."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.data import DataSet, load_manifest
from pytest_ai_how.launch import Ended
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import Scale, load_scale
from pytest_ai_how.transport import FakeTransport, Transport
from suites.mlops._request import Request
from suites.mlops._trained import Killed, Trained, Work
from suites.mlops._trainer import Trainer
from suites.mlops.distributed._run import Runs
from tests.fakes import fake_cluster
from tests.unit.suites.task042_fakes import Rules, fake_slurm

DATA = Path(__file__).parents[2] / "data" / "mlops"
OUT = "/mnt/shared/jobs/run/mlops-r1/train"
REQUEST = Request(1, 1024, 1, ("node01",), "gpu")
Edit = Callable[[dict[str, Any]], None]


def captured(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


def ended(**changes: Any) -> Ended:
    tres = {"cpu": 1, "mem": 1024, "node": 1, "gres/gpu": 1, "billing": 1}
    times = (1795449000.0, 1795449001.0, 1795449091.0, 90.0)
    found = Ended("2", "train", "COMPLETED", 0, 0, ("node01",), *times, f"{OUT}.out", f"{OUT}.err", tres)
    return replace(found, **changes)


def left(name: str = "training", edit: Edit | None = None, **changes: Any) -> Trained:
    """What a job left; ``edit`` spoils its metrics."""
    metrics = captured(f"{name}-metrics")
    if edit:
        edit(metrics)
    ranks = (DATA / f"{name}-ranks.json").read_text()
    said = "epoch 1: loss 0.8955\n"
    return replace(Trained(ended(), REQUEST, OUT, said, "INFO: x\n", json.dumps(metrics), ranks), **changes)


def looked(**changes: Any) -> dict[str, Any]:
    """What a new process says of what a training left, as it was captured with it."""
    metrics = captured("training-metrics")
    scalars = {
        name: [[one["epoch"], one[name] * (1 + 3e-8)] for one in metrics["history"]] for name in ("loss", "accuracy")
    }
    return {"accuracy": metrics["accuracy"], "parameters": metrics["parameters"], "scalars": scalars} | changes


@dataclass
class FakeTrainer:
    """Hands out what was prepared, by the name of the job."""

    jobs: Mapping[str, Trained] = field(default_factory=dict)
    seen: Mapping[str, Any] = field(default_factory=looked)
    killed: Killed = field(default_factory=lambda: Killed(ended(id="5", state="FAILED", status=0, signal=9), 1.5))
    real: bool = False
    cluster: Cluster = field(default_factory=lambda: fake_cluster({}))
    memory: tuple[int, ...] = ()
    host: Transport | None = None
    unreadable: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def launcher(self) -> SlurmLauncher:
        return SlurmLauncher(fake_slurm())

    def trained(self, name: str, work: Work, request: Request, *flags: str) -> Trained:
        self.asked.append(name)
        return self.jobs.get(name) or left()

    def resumed(self, name: str, work: Work, request: Request, rank: int = 0) -> tuple[Killed, Trained]:
        self.asked.append(name)
        return self.killed, self.jobs.get(name) or left("resumed")

    def look(self, name: str, work: Work, request: Request, out: str) -> Mapping[str, Any]:
        return self.seen

    def data(self, name: str) -> tuple[str, DataSet]:
        return f"/mnt/shared/jobs/run/data-{name}", load_manifest()[name]

    def gpu_memory(self, node: str) -> tuple[int, ...]:
        return self.memory


def trainer(jobs: Mapping[str, Trained] | None = None, **values: Any) -> Trainer:
    return cast(Trainer, FakeTrainer(jobs or {}, **values))


def digests(**by_node: str) -> Cluster:
    """Compute nodes that read these digests."""
    rules: dict[str, Rules] = {node: [("sha256sum", f"{found}  x\n")] for node, found in by_node.items()}
    return fake_cluster(rules)


#: What the accounting has of a job on two GPUs.
TRES = {"cpu": 2, "mem": 1024, "node": 1, "gres/gpu": 2}
XID = "2026-11-27T04:00:01+00:00 node01 kernel: NVRM: Xid (PCI:0000:01:00): 79, pid=812, GPU has fallen off the bus."
HEALTHY = "2026-11-27T04:00:01+00:00 node01 kernel: nvidia 0000:01:00.0: enabling device (0000 -> 0003)"


def kernels(*seen: str, **by_node: str) -> Cluster:
    """Compute nodes whose kernels say this of a window; the words that asked for it must have ``seen`` among them."""

    def says(text: str) -> Rules:
        pattern = re.compile(r".*".join(("journalctl", *map(re.escape, seen))), re.DOTALL)
        return [(pattern, f"812\n{text}\n")]

    return fake_cluster({node: says(text) for node, text in by_node.items()})


def host(text: str) -> Transport:
    """This host, whose kernel says this."""
    return FakeTransport("localhost", {re.compile("journalctl"): f"812\n{text}\n"})


def scale(name: str = "smoke") -> Scale:
    return load_scale(name)


# Two processes, as suites/mlops/distributed has them

ONE_NODE = Request(1, 1024, 2, ("node01",), "gpu")
TWO_NODES = Request(1, 1024, 1, ("node01", "node02"), "gpu")
Ranks = list[dict[str, Any]]


def ddp(edit: Edit | None = None, **changes: Any) -> Trained:
    record = ended(id="7", name="ddp", tres=TRES)
    return replace(left("ddp", edit, ended=record, request=ONE_NODE), **changes)


def alone(edit: Edit | None = None) -> Trained:
    return left("ddp-alone", edit, ended=ended(id="8", name="ddp-alone"))


def mnist(edit: Edit | None = None, **changes: Any) -> Trained:
    nodes = ("node01", "node02")
    record = ended(id="9", name="ddp-mnist", nodes=nodes, tres={**TRES, "node": 2, "mem": 2048})
    return replace(left("ddp-mnist", edit, ended=record, request=TWO_NODES), **changes)


def resumed(edit: Edit | None = None) -> Trained:
    nodes = ("node01", "node02")
    return left("ddp-resumed", edit, ended=ended(id="11", name="ddp-killed-on", nodes=nodes), request=TWO_NODES)


KILLED = Killed(ended(id="10", name="ddp-killed", state="FAILED", status=1, nodes=("node01", "node02")), 6.0)


def ranks(edit: Callable[[Ranks], None], name: str = "ddp") -> str:
    """What the processes of a job told, spoilt."""
    found: Ranks = json.loads((DATA / f"{name}-ranks.json").read_text())
    edit(found)
    return json.dumps(found)


def runs(evidence: Evidence, jobs: dict[str, Trained] | None = None, **values: Any) -> Runs:
    usual = {"ddp": ddp(), "ddp-alone": alone(), "ddp-mnist": mnist(), "ddp-killed": resumed()}
    found = FakeTrainer({**usual, **(jobs or {})}, **{"killed": KILLED, **values})
    return Runs(cast(Trainer, found), fake_slurm(), scale(), evidence)


def metric(**values: Any) -> Edit:
    return lambda metrics: metrics.update(values)


def faster(factor: float) -> Edit:
    """All epochs do as many times the samples a second."""

    def edit(metrics: dict[str, Any]) -> None:
        for one in metrics["history"]:
            one["samples_per_second"] *= factor

    return edit


def on_gpus(found: Trained, **metrics: Any) -> Trained:
    text = json.loads(found.metrics_text) | {"device": "NVIDIA H100 80GB HBM3"} | metrics
    return replace(found, metrics_text=json.dumps(text))


def rate_of(found: Trained) -> float:
    """Samples a second, of the epochs after the first."""
    return median(one["samples_per_second"] for one in json.loads(found.metrics_text)["history"][1:])
