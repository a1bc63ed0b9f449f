#!/usr/bin/python3
"""A matrix product: rank 0 reads both matrices, hands out rows of the left one, and gives all the whole right one.

Argument: a JSON file {"left": rows, "right": rows} of whole numbers, which only rank 0 reads.
"""

import json
import sys
from pathlib import Path
from typing import Any

from mpi4py import MPI
from ranks import tell


def matmul(comm: Any, path: Path) -> dict[str, Any]:
    """Multiply; a rank tells its first row's number and its rows of the product."""
    rank, size = comm.Get_rank(), comm.Get_size()
    parts, right = None, None
    if rank == 0:
        read = json.loads(path.read_text())
        left, right = read["left"], read["right"]
        edges = [len(left) * n // size for n in range(size + 1)]
        parts = [(edges[n], left[edges[n] : edges[n + 1]]) for n in range(size)]
    first, rows = comm.scatter(parts, root=0)
    columns = list(zip(*comm.bcast(right, root=0), strict=True))
    product = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in rows]
    return {"first": first, "rows": product}


if __name__ == "__main__":
    tell(MPI.COMM_WORLD, matmul(MPI.COMM_WORLD, Path(sys.argv[1])))
