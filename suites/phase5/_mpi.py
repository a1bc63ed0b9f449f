"""What MPI programs must come to: each computed here once more by one process, or by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.services.slurm import Slurm

from ..phase6._containers import numbers
from ._ranks import Place, Ran, expect, launch

#: MiB on each node: an interpreter for each rank, and what its ranks share by memory; and for each rank in a container,
#: as each has an own process that serves the image by FUSE.
MEMORY, MEMORY_IN_CONTAINER = 256, 192

#: A rank's share of π is summed in the same order here as there.
SAME = 1e-12
Matrix = Sequence[Sequence[int]]


def run(slurm: Slurm, evidence: Evidence, at: Place, image: str, program: str, *args: str) -> Ran:
    """Run a program of MPI, each rank once and where it is to be: in containers of ``image``, or on the nodes (``''``).

    ``program`` is its path. With more ranks than CPUs if one of the nodes has too few.
    """
    known = slurm.nodes()
    cpus = {name: known[name].cpus for name in at.names if name in known}
    over = any(count < at.per_node for count in cpus.values())
    counts = ", ".join(f"{node} has {count}" for node, count in cpus.items())
    evidence.attach("CPUs", f"{'overcommitted' if over else 'one for each rank'}: {at.shape} ranks; {counts}")
    path = PurePosixPath(program)
    argv, mem = ("python3", program, *args), MEMORY
    if image:
        argv, mem = command("exec", image, *argv, binds=[str(path.parent)]), at.per_node * MEMORY_IN_CONTAINER
    return launch(slurm, evidence, path.stem, at, argv, image, mpi="pmix", mem=mem, overcommit=over)


def matrices(size: int) -> tuple[Matrix, Matrix]:
    """Two square matrices of small whole numbers."""
    left, right = (numbers(size * size, seed) for seed in (11, 12))
    return tuple(left[n : n + size] for n in range(0, size * size, size)), tuple(
        right[n : n + size] for n in range(0, size * size, size)
    )


def product(left: Matrix, right: Matrix) -> list[list[int]]:
    """Their product, by one process."""
    columns = list(zip(*right, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]


def share_of_pi(rank: int, size: int, intervals: int) -> float:
    """What one rank's part of the integral of 4 / (1 + x²) is, by the midpoint rule."""
    points = ((n + 0.5) / intervals for n in range(rank, intervals, size))
    return math.fsum(4 / (1 + x * x) for x in points) / intervals


def right_shares(ran: Ran, intervals: int) -> None:
    """Hold the share of each rank to its own, and the sum that each has to the sum of all shares."""
    where = [f"{told['node']}: rank {told['rank']} of {ran.name}" for told in ran.told]
    for rank, (who, told) in enumerate(zip(where, ran.told, strict=True)):
        right = share_of_pi(rank, len(ran.told), intervals)
        assert math.isclose(told["share"], right, rel_tol=SAME), (
            f"{who} summed {told['share']!r} over its intervals, expected {right!r}"
        )
    total = math.fsum(told["share"] for told in ran.told)
    for who, told in zip(where, ran.told, strict=True):
        assert math.isclose(told["pi"], total, rel_tol=SAME), (
            f"{who} has {told['pi']!r} as the sum of all ranks, expected {total!r}"
        )


def right_rows(ran: Ran, left: Matrix, right: Matrix) -> None:
    """Hold the rows of a product that each rank has to those that one process computes; none may be missing."""
    expected = product(left, right)
    seen: set[int] = set()
    for told in ran.told:
        where = f"{told['node']}: rank {told['rank']} of {ran.name}"
        for number, row in enumerate(told["rows"], told["first"]):
            assert number < len(expected), f"{where} has a row {number} of {len(expected)}"
            wrong = [n for n, (a, b) in enumerate(zip(row, expected[number], strict=True)) if a != b]
            assert not wrong, (
                f"{where}: element {number}, {wrong[0]} of the product is {row[wrong[0]]}, expected "
                f"{expected[number][wrong[0]]} ({len(wrong)} of the row are wrong)"
            )
            seen.add(number)
    missing = sorted(set(range(len(expected))) - seen)
    first = ran.told[0]["node"]
    assert not missing, f"{first}: no rank of {ran.name} has row {missing[0]} of the product ({len(missing)} missing)"


def collected(rank: int, size: int) -> dict[str, Any]:
    """What ``collectives.py`` tells of one rank when all is right."""
    right, left, all_ranks = (rank + 1) % size, (rank - 1) % size, range(size)
    return {
        "object": ["from", left],
        "buffer": [right + 0.5] * 3,
        "bcast": 100 + size - 1,
        "scatter": rank * rank,
        "gather": [10 * n for n in all_ranks] if rank == size - 1 else None,
        "allgather": [n**3 for n in all_ranks],
        "alltoall": [100 * n + rank for n in all_ranks],
        "reduce": size * (size + 1) // 2 if rank == 0 else None,
        "allreduce": math.factorial(size),
        "scan": (rank + 1) * (rank + 2) // 2,
    }


def right_collectives(ran: Ran) -> None:
    """Hold what each rank got of each operation to that."""
    for told in ran.told:
        for key, value in collected(told["rank"], len(ran.told)).items():
            expect(ran, told, key, value)
