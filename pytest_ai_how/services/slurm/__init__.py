"""Slurm: its records, its options, its verbs."""

from pytest_ai_how.services.slurm.options import JobOptions, JobSpec
from pytest_ai_how.services.slurm.records import JobRecord, NodeRecord, PartitionRecord, SacctRecord, StepRecord
from pytest_ai_how.services.slurm.service import Slurm
from pytest_ai_how.services.slurm.values import ExitCode

__all__ = [
    "ExitCode",
    "JobOptions",
    "JobRecord",
    "JobSpec",
    "NodeRecord",
    "PartitionRecord",
    "SacctRecord",
    "Slurm",
    "StepRecord",
]
