"""The trainings that the checks of this folder judge, and where they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import Scale
from pytest_ai_how.services.slurm import NodeRecord, Slurm
from pytest_ai_how.services.slurm.topology import topologies, why_none

from .._request import Request, describe, for_one, for_topology
from .._trained import Killed, Trained, Work
from .._trainer import Trainer

#: Sections of configs/scales.
CIFAR, MNIST = "cifar10", "mnist-ddp"
#: How many processes train together.
GPUS = 2


@dataclass(frozen=True, slots=True)
class Runs:
    """Trainings of this run on two GPUs. Each runs once, whoever asks first; what they left is attached.

    Without ``slurm`` they are the first two of the machine that trains.
    """

    trainer: Trainer
    slurm: Slurm | None
    scale: Scale
    evidence: Evidence

    def work(self, name: str) -> Work:
        """What is trained."""
        return self.scale.section(name, Work)

    def request(self, work: Work, last: bool = False) -> Request:
        """What a job of two processes asks for: the best way to have two GPUs, or the last of the ways there are."""
        if self.slurm is None:
            return self._attach(Request(work.cpus, 0, GPUS), work)
        records = tuple(self.slurm.nodes().values())
        found = topologies(records, GPUS)
        assert found, f"{self.slurm.cluster.controller.name}: {why_none(records)}; expected {GPUS}; do: `sinfo -N -l`"
        request = for_topology(records, found[-1 if last else 0], work.cpus, work.memory)
        return self._attach(request, work, records)

    def _attach(self, request: Request, work: Work, records: Sequence[NodeRecord] = ()) -> Request:
        limit = self.trainer.launcher.limit(work.minutes, request.partition)
        self.evidence.attach("what is asked for", describe(request, records, work.cpus, work.memory, limit))
        return request

    def cifar(self) -> Trained:
        """The residual network by two processes, where their GPUs are nearest to each other."""
        work = self.work(CIFAR)
        return self._attached(self.trainer.trained("ddp", work, self.request(work), "--tensorboard"))

    def alone(self) -> Trained:
        """The same work by one process, on one of those machines."""
        work = self.work(CIFAR)
        return self._attached(self.trainer.trained("ddp-alone", work, self.one(work)))

    def one(self, work: Work) -> Request:
        """What the same job of one process asks for."""
        if self.slurm is None:
            return self._attach(Request(work.cpus, 0, 1), work)
        first = self.request(work).on[0]
        records = [record for name, record in self.slurm.nodes().items() if name == first]
        return for_one(records, work.cpus, work.memory)

    def mnist(self) -> Trained:
        """The small network by two processes, on two nodes where there are two."""
        work = self.work(MNIST)
        return self._attached(self.trainer.trained("ddp-mnist", work, self.request(work, last=True)))

    def killed(self) -> tuple[Killed, Trained]:
        """The same, with its second process killed in the middle epoch, and what went on from there."""
        work = self.work(MNIST)
        killed, resumed = self.trainer.resumed("ddp-killed", work, self.request(work, last=True), rank=1)
        self.evidence.attach(f"job {killed.ended.id}: record", killed.ended.to_json(), "application/json")
        return killed, self._attached(resumed)

    def _attached(self, found: Trained) -> Trained:
        found.attach(self.evidence)
        return found
