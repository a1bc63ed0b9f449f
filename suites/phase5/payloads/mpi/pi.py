#!/usr/bin/python3
"""π by the midpoint rule: each rank sums every size-th interval, and all get the sum of all.

Argument: how many intervals.
"""

import sys
from typing import Any

from mpi4py import MPI
from ranks import tell


def share(rank: int, size: int, intervals: int) -> float:
    """The part of the integral of 4 / (1 + x²) from 0 to 1 that one rank sums."""
    return sum(4 / (1 + ((n + 0.5) / intervals) ** 2) for n in range(rank, intervals, size)) / intervals


def pi(comm: Any, intervals: int) -> dict[str, Any]:
    """Sum up, each its share."""
    mine = share(comm.Get_rank(), comm.Get_size(), intervals)
    return {"share": mine, "pi": comm.allreduce(mine, op=MPI.SUM)}


if __name__ == "__main__":
    tell(MPI.COMM_WORLD, pi(MPI.COMM_WORLD, int(sys.argv[1])))
