"""What Oumi's own launcher is given: a training, and jobs that ask Slurm for what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_ai_how.shell import quote

from .._request import Request
from ._work import Training, train

#: Steps that a launched job trains, and minutes that it may take.
STEPS, MINUTES = 10, 10
#: Below the folder of Oumi's jobs: where the launcher takes what a job works with, and the file that lets it end.
WORK, SEEN = "launch/work", "launch/seen"
#: The files: a training and the job that does it, a job that goes on, and one that does nothing.
TRAIN, JOB, LONG, SHORT = f"{WORK}/train.yaml", "launch/job.yaml", "launch/job-long.yaml", "launch/job-short.yaml"


def submissions(
    work: Training, ask: Request, command: str, *, user: str, folder: str, real: bool
) -> Mapping[str, dict[str, Any]]:
    """All of it, by file below ``folder``; ``command`` trains by :data:`TRAIN`, and ``ask`` is what that may have."""
    config = train(work, folder, f"{folder}/launch/out", real=real)
    config["training"] |= {"max_steps": STEPS, "save_steps": 0}
    # It ends when it was seen on its way, however fast it is.
    run = f"{command}\nuntil [ -e {quote([f'{folder}/{SEEN}'])} ]; do sleep 0.2; done"
    plain = replace(ask, gpus=0)
    return {
        TRAIN: config,
        JOB: job_config("ai-how-launched", run, ask, user, folder),
        LONG: job_config("ai-how-long", "sleep 600", plain, user, folder),
        SHORT: job_config("ai-how-refused", "true", plain, user, folder),
    }


def job_config(name: str, run: str, ask: Request, user: str, folder: str) -> dict[str, Any]:
    """A job for ``oumi launch``, which asks for CPUs, memory and, where there are GPUs, one of them."""
    resources = {"cloud": "slurm", "cpus": f"{ask.cpus}", "memory": f"{ask.memory}M"}
    return {
        "name": name,
        "user": user,
        "num_nodes": 1,
        "working_dir": f"{folder}/{WORK}/",
        "resources": resources | ({"accelerators": f":{ask.gpus}"} if ask.gpus else {}),
        "envs": {"AI_HOW_LAUNCHED": name, "OMP_NUM_THREADS": f"{ask.cpus}"},
        "setup": f"#SBATCH --time={MINUTES}\n",
        "run": f"set -e\n{run}\n",
    }
