"""Programs of many processes: put where all nodes see them, started by one srun, and held to having run as one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from pytest_ai_how.culprit import listed
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import JobOptions, Slurm

from ..phase6._containers import cause, culprit, job_folder, status

#: Seconds after which a program that should take a few is given up; what it may take is for configs/limits to say.
WITHIN = 300.0
#: What one rank tells: the common part (see payloads/mpi/ranks.py), and what its program found.
Told = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many nodes, and how many ranks on each; ``str()`` is ``2×4``."""

    nodes: int
    per_node: int

    def __str__(self) -> str:
        return f"{self.nodes}×{self.per_node}"

    @property
    def ranks(self) -> int:
        """How many ranks in all."""
        return self.nodes * self.per_node


@dataclass(frozen=True, slots=True)
class Place:
    """On which nodes a program runs, with how many ranks on each, and how many seconds it may take."""

    names: tuple[str, ...]
    per_node: int
    within: float = WITHIN

    @property
    def shape(self) -> Shape:
        """How many nodes, and how many ranks on each."""
        return Shape(len(self.names), self.per_node)

    def __str__(self) -> str:
        return listed(self.names)


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that ended well: what its ranks told, in the order of ranks, and how many seconds srun took."""

    name: str
    told: tuple[Told, ...]
    seconds: float


@contextmanager
def placed(slurm: Slurm, run_id: str, *programs: str) -> Iterator[str]:
    """Files of ``payloads/`` in a folder of the job user on the shared storage, for the time of the block."""
    name = f"{Path(programs[-1]).stem}-{run_id}-{time.monotonic_ns()}"
    with job_folder(slurm, name) as folder:
        for program in programs:
            text = (Path(__file__).parent / "payloads" / program).read_text(encoding="utf-8")
            slurm.write(f"{folder}/{Path(program).name}", text)
        yield folder


def launch(
    slurm: Slurm, evidence: Evidence, program: str, at: Place, argv: Sequence[str], image: str = "",
    **options: Unpack[JobOptions],
) -> Ran:  # fmt: skip
    """Start a program by one srun, and return what its ranks told: each ran once, and where it was to.

    ``argv`` starts it in containers of ``image``, or on the nodes themselves (``''``). That it fails, hangs, or tells
    something else is a failure that names the node whose task failed first, by srun's word, or all that it ran on:
    whoever ran srun had no part in it.
    """
    shape = at.shape
    job = options["name"] = f"{program}-{time.monotonic_ns()}"
    options["nodes"], options["ntasks"], options["nodelist"] = shape.nodes, shape.ranks, ",".join(at.names)
    # When one has failed, the others would wait for it.
    options["kill_on_bad_exit"] = True
    if not options.get("overcommit"):
        # More of them than a node has CPUs is refused by Slurm 24.11 even with --overcommit; ranks go in even blocks.
        options["ntasks_per_node"] = shape.per_node
    since = time.monotonic()
    try:
        result = slurm.srun(*argv, within=at.within, **options)
    finally:
        # What was given up would hold its nodes until its time limit.
        slurm.query("scancel", f"--user={slurm.user}", f"--name={job}", check=False)
    seconds = time.monotonic() - since
    evidence.result(result, f"{program} as {shape} ranks")
    assert result.ok, (
        f"{culprit(result, str(at))}: {program} as {shape} ranks ended with {status(result)}: {cause(result)}; "
        "expected that all ranks end well; do: see the attached output"
    )
    documents = [document(line) for line in result.stdout.splitlines() if line.strip()]
    assert None not in documents, f"{at}: {program} printed {result.stdout[-200:]!r}, expected JSON of all ranks"
    assert documents, f"{at}: {program} as {shape} ranks said nothing, expected JSON of all ranks"
    assert len(documents) == 1, (
        f"{at}: {program} is {len(documents)} programs of {len(documents[0] or ())} rank each, expected one "
        f"of {shape.ranks}: nothing told them of each other; do: compare `srun --mpi=list` with what the program was "
        "built for"
    )
    ran = Ran(program, tuple(documents[0] or ()), seconds)
    in_place(ran, shape)
    for told in ran.told:
        expect(ran, told, "container", image)
    return ran


def in_place(ran: Ran, shape: Shape) -> tuple[str, ...]:
    """Hold a program to its shape: each rank once, and as many on each of as many distinct nodes. Returns the nodes."""
    nodes = [told["node"] for told in ran.told]
    ranks = [told["rank"] for told in ran.told]
    where = ", ".join(f"{rank} on {node}" for rank, node in zip(ranks, nodes, strict=True))
    first = nodes[0] if nodes else "no node"
    assert ranks == list(range(shape.ranks)), (
        f"{first}: {ran.name} has the ranks {where or 'none'}; expected 0 to {shape.ranks - 1}, each once"
    )
    for told in ran.told:
        assert told["size"] == shape.ranks, (
            f"{told['node']}: rank {told['rank']} of {ran.name} sees {told['size']} ranks, expected {shape.ranks}"
        )
    names = tuple(dict.fromkeys(nodes))
    assert len(names) == shape.nodes, (
        f"{first}: {ran.name} ran on {', '.join(names)}; expected {shape.nodes} distinct nodes (ranks: {where})"
    )
    for name in names:
        assert nodes.count(name) == shape.per_node, (
            f"{name}: {nodes.count(name)} ranks of {ran.name} ran here, expected {shape.per_node} (ranks: {where})"
        )
    return names


def expect(ran: Ran, told: Told, key: str, expected: object) -> None:
    """Hold one thing that a rank told to what is right; the failure names node and rank."""
    assert told.get(key) == expected, (
        f"{told['node']}: rank {told['rank']} of {ran.name}: {key} is {told.get(key)!r}, expected {expected!r}"
    )


def document(line: str) -> list[dict[str, Any]] | None:
    """What a line says of all ranks; None when it says something else."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, list) else None
