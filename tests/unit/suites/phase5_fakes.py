"""A Slurm whose srun answers as programs of several ranks did (tests/data/phase5), or as they would on many nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from suites.phase5._mpi import collected
from tests.fakes import WRITES
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
    first: Rules = [("srun", answer), WRITES, ("rm -rf", "")]
    found = fake_slurm(jobs, first=first, compute=compute, nodes=nodes_json(**nodes))
    transport(found.cluster, "controller").files[f"{ROOT}/.registry/catalog.yaml"] = CATALOG.encode()
    return found, Registry(found.cluster)


def asked(slurm: Slurm, word: str) -> list[tuple[str, ...]]:
    """The commands that the controller was asked, by their first word."""
    return [call.argv for call in transport(slurm.cluster, "controller").calls if call.argv[0] == word]


#: What is wrong when a program runs on these nodes: nothing, what a rank tells otherwise, or how srun ends.
Wrong = Callable[[tuple[str, ...]], "Edit | Result | None"]


def hung(seconds: float = 300) -> Result:
    """An srun that was given up (:meth:`Slurm.srun`)."""
    return Result((), -9, "", f"srun did not end within {seconds:g} s; job 9 is RUNNING, reason None\n")


def spanning(wrong: Wrong, nodes: int = 4) -> tuple[Slurm, Registry]:
    """A Slurm with so many compute nodes, whose srun runs hello and the collectives of MPI and gloo as they would."""

    def srun(argv: tuple[str, ...]) -> Result | str:
        options = dict(word[2:].split("=", 1) for word in argv if word.startswith("--") and "=" in word)
        names, ranks = tuple(options["nodelist"].split(",")), int(options["ntasks"])
        assert int(options["nodes"]) == len(names), argv
        found = wrong(names)
        if isinstance(found, Result):
            return found
        image = next((word for word in argv if word.endswith(".sif")), "")
        program = next(PurePosixPath(word).stem for word in argv if word.endswith(".py"))
        told = [rank_of(n, ranks, names, program, image) for n in range(ranks)]
        if found:
            found(told)
        return json.dumps(told) + "\n"

    config = of_many(nodes)
    names = [node.name for node in config.on("compute")]
    first: Rules = [("srun", srun), WRITES, ("rm -rf", "")]
    made = fake_slurm(first=first, nodes=records(names), config=config)
    transport(made.cluster, "controller").files[f"{ROOT}/.registry/catalog.yaml"] = CATALOG.encode()
    return made, Registry(made.cluster)


def rank_of(rank: int, size: int, names: tuple[str, ...], program: str, image: str) -> dict[str, Any]:
    """What one rank tells when all is well."""
    at = [names[n * len(names) // size] for n in range(size)]
    told: dict[str, Any] = {"rank": rank, "size": size, "node": at[rank], "container": image, "pmix": "slurm.pmix.6.0"}
    if program == "hello":
        before = (rank - 1) % size
        return told | {"heard": f"rank {before} of {size} on {at[before]}"}
    if "pytorch" not in image:
        return told | collected(rank, size)
    total = size * (size + 1) // 2
    return told | {
        "backend": "gloo",
        "gpu": "",
        "all_reduce": [total, 10 * total],
        "single": [total - size / 2],
        "broadcast": [100 + size - 1],
        "all_gather": [[n, n**3] for n in range(size)],
        "waited": 0.5,
        "late": 0.5,
    }


def of_many(nodes: int) -> ClusterConfig:
    """configs/local.yaml with so many compute nodes."""
    local = load_config("local")
    controller, first, *_ = local.nodes
    compute = [
        first.model_copy(update={"name": f"node{n:02}", "address": f"10.78.0.{10 + n}"}) for n in range(1, nodes + 1)
    ]
    return local.model_copy(update={"nodes": (controller, *compute)})


def records(names: list[str]) -> str:
    """``scontrol show node --json`` with these, all idle."""
    (first, *_) = json.loads(nodes_json())["nodes"]
    return json.dumps({"nodes": [first | {"name": name} for name in names]})
