"""The job that runs into its time limit: Slurm counts in minutes, so it is begun early and collected late."""

from __future__ import annotations

from pytest_ai_how.services.slurm import JobSpec, Slurm

from ._slurm_jobs import submit

NAME = "time-limit"


def begin(slurm: Slurm) -> int:
    """Submit it, to the last compute node: checks that need a node for themselves take the first."""
    return submit(slurm, JobSpec("sleep 600", name=NAME, time=1, mem=16, nodelist=slurm.compute[-1]))


def time_limit_job(slurm: Slurm) -> int:
    """Return the id of this run's job, beginning it now if no worker has."""
    mine = [job.id for job in slurm.jobs().values() if job.name == NAME and job.workdir == slurm.folder]
    return mine[-1] if mine else begin(slurm)
