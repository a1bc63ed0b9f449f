"""The training that the checks of this folder judge."""

from __future__ import annotations

from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import Scale
from pytest_ai_how.services.slurm import NodeRecord

from .._request import Request, describe, for_one
from .._trained import Trained, Work
from .._trainer import Trainer

#: The section of configs/scales, and the name of the job.
WORKLOAD, NAME = "mnist", "train"


def work_of(scale: Scale) -> Work:
    """What is trained."""
    return scale.section(WORKLOAD, Work)


def records(trainer: Trainer) -> tuple[NodeRecord, ...]:
    """The nodes as Slurm has them; none where there is no Slurm."""
    launcher = trainer.launcher
    return tuple(launcher.slurm.nodes().values()) if isinstance(launcher, SlurmLauncher) else ()


def request_of(trainer: Trainer, work: Work, evidence: Evidence) -> Request:
    """What a job of one process asks for here; attached with what it was derived from."""
    known = records(trainer)
    if isinstance(trainer.launcher, SlurmLauncher):
        request = for_one(known, work.cpus, work.memory)
    else:
        gpus = [node.gpus.count for node in trainer.cluster.config.on("compute")[:1] if node.gpus]
        request = Request(work.cpus, 0, min(1, *gpus) if gpus else 0)
    limit = trainer.launcher.limit(work.minutes, request.partition)
    evidence.attach("what is asked for", describe(request, known, work.cpus, work.memory, limit))
    return request


def trained(trainer: Trainer, scale: Scale, evidence: Evidence) -> Trained:
    """The training of this run, with its evidence."""
    work = work_of(scale)
    found = trainer.trained(NAME, work, request_of(trainer, work, evidence), "--tensorboard")
    found.attach(evidence)
    return found
