"""Fixtures of distributed training."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import Scale
from pytest_ai_how.services.slurm import Slurm

from .._trainer import Trainer
from ._run import Runs


@pytest.fixture
def runs(trainer: Trainer, slurm: Slurm, scale: Scale, evidence: Evidence) -> Runs:
    """The trainings of this run on two GPUs: ``runs.cifar()`` is what that one left, attached as evidence."""
    return Runs(trainer, slurm, scale, evidence)
