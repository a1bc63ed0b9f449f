"""Fixtures of distributed training."""

from __future__ import annotations

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import Scale
from pytest_ai_how.services.slurm import Slurm

from .._trainer import Trainer
from ._run import Runs


@pytest.fixture
def runs(
    trainer: Trainer, cluster_config: ClusterConfig, scale: Scale, evidence: Evidence, request: pytest.FixtureRequest
) -> Runs:
    """The trainings of this run on two GPUs: ``runs.cifar()`` is what that one left, attached as evidence."""
    slurm: Slurm | None = request.getfixturevalue("slurm") if cluster_config.slurm else None
    return Runs(trainer, slurm, scale, evidence)
