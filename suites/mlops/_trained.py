"""What is trained, and what a training job left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from pytest_ai_how.launch import Ended
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import Section

from ._curves import chart
from ._gpus import samples
from ._metrics import Metrics, Rank, parse_metrics, parse_ranks
from ._request import Request

Count = Annotated[int, Field(ge=1)]


class Work(Section):
    """A workload in ``configs/scales``: which data and network, for how long, and what the plan lets it ask for.

    ``batch`` is that of one process, ``memory`` MiB of a machine.
    """

    data: str
    model: Literal["cnn", "resnet"]
    width: Count
    epochs: Annotated[int, Field(ge=2)]
    batch: Count
    rate: Annotated[float, Field(gt=0)]
    cpus: Count
    memory: Count
    minutes: Count

    @property
    def middle(self) -> int:
        """The epoch in which a training is interrupted: the one after the first half."""
        return self.epochs // 2 + 1


@dataclass(frozen=True, slots=True)
class Trained:
    """A training job that ended well, and the texts of what it left: checks judge these.

    ``gpus`` is what nvidia-smi said of the GPU of each process while it trained, ``idle`` the MiB in use on each GPU of
    the first machine before it began; both empty where no GPU computes.
    """

    ended: Ended
    request: Request
    out: str
    stdout: str
    stderr: str
    metrics_text: str
    ranks_text: str
    gpus: Mapping[int, str] = field(default_factory=dict)
    idle: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """How messages name it."""
        return self.ended.label

    def metrics(self) -> Metrics:
        """``metrics.json``, held to its schema."""
        return parse_metrics(self.metrics_text, f"{self.ended.node}: {self.out}/metrics.json")

    def ranks(self) -> tuple[Rank, ...]:
        """``ranks.json``, held to its schema."""
        return parse_ranks(self.ranks_text, f"{self.ended.node}: {self.out}/ranks.json")

    def utilisation(self, rank: int) -> tuple[float, ...]:
        """Percent of the time that the GPU of a process was busy, each half second after the first epoch."""
        return tuple(one.busy for one in samples(self.gpus.get(rank, "")))

    def attach(self, evidence: Evidence) -> None:
        """Attach the job's record, what it said, its metrics, and its curves."""
        evidence.attach(f"job {self.ended.id}: record", self.ended.to_json(), "application/json")
        evidence.attach(f"job {self.ended.id}: stdout", self.stdout)
        evidence.attach(f"job {self.ended.id}: stderr", self.stderr)
        evidence.attach("metrics.json", self.metrics_text, "application/json")

    def draw(self, evidence: Evidence) -> None:
        """Attach the curves of loss and accuracy, as pictures."""
        history = self.metrics().history
        for name, up in (("loss", "mean loss"), ("accuracy", "% of held-out images")):
            points = [(float(one.epoch), float(getattr(one, name))) for one in history]
            evidence.attach(f"{name}.svg", chart(f"{name}, {self.label}", "epoch", up, {name: points}), "image/svg+xml")


@dataclass(frozen=True, slots=True)
class Killed:
    """A job one of whose processes was killed, and how many seconds later it was seen to have ended."""

    ended: Ended
    seconds: float
