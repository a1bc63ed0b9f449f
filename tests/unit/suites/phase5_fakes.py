"""A Slurm whose srun answers as programs of several ranks did (tests/data/phase5), or edited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm, nodes_json
from tests.unit.suites.task043_fakes import GOOD, ROOT, transport

DATA = Path(__file__).parents[2] / "data" / "phase5"
IMAGE = f"{ROOT}/base-images/mpi.sif"
CATALOG = (
    f'images: [{{name: mpi, file: base-images/mpi.sif, digest: "sha256:{GOOD}", size: 55697408}}, '
    f'{{name: pytorch, file: ml-frameworks/pytorch.sif, digest: "sha256:{GOOD}", size: 55697408}}]'
)
Ranks = list[dict[str, Any]]
Edit = Callable[[Ranks], None]
#: What srun --kill-on-bad-exit and Python said where one node lacks MPI (24.11.5, 3.13).
NO_MPI = Result(
    (),
    143,
    "",
    "Traceback (most recent call last):\n"
    '  File "/mnt/shared/jobs/r1/hello/hello.py", line 8, in <module>\n'
    "    from mpi4py import MPI\n"
    "ModuleNotFoundError: No module named 'mpi4py'\n"
    "srun: error: node02: tasks 2-3: Exited with exit code 1\n"
    "srun: Terminating StepId=7.0\n"
    "slurmstepd-node01: error: *** STEP 7.0 ON node01 CANCELLED AT 2026-11-26T22:42:12 ***\n"
    "\x1b[0msrun: error: node01: tasks 0-1: Terminated\n"
    "srun: Force Terminated StepId=7.0\n",
)


def captured(name: str) -> Ranks:
    """What the ranks of a program told."""
    found: Ranks = json.loads((DATA / f"{name}.json").read_text())
    return found


def edited(name: str, edit: Edit | None = None) -> str:
    """The same as text, spoilt."""
    told = captured(name)
    if edit:
        edit(told)
    return json.dumps(told) + "\n"


def changed(rank: int, **values: Any) -> Edit:
    """One rank tells something else."""

    def edit(told: Ranks) -> None:
        assert values.keys() <= told[rank].keys(), f"no {values.keys() - told[rank].keys()} is told"
        told[rank].update(values)

    return edit


def slurm(answer: Any, *, jobs: tuple[FakeJob, ...] = (), compute: Rules = (), **nodes: Any) -> tuple[Slurm, Registry]:
    """A Slurm whose srun answers so, and the registry that its nodes see."""
    first: Rules = [("srun", answer), ("tee", ""), ("rm -rf", "")]
    found = fake_slurm(jobs, first=first, compute=compute, nodes=nodes_json(**nodes))
    transport(found.cluster, "controller").files[f"{ROOT}/.registry/catalog.yaml"] = CATALOG.encode()
    return found, Registry(found.cluster)


def asked(slurm: Slurm, word: str) -> list[tuple[str, ...]]:
    """The commands that the controller was asked, by their first word."""
    return [call.argv for call in transport(slurm.cluster, "controller").calls if call.argv[0] == word]
