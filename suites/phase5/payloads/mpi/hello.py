#!/usr/bin/python3
"""Each rank greets the next one; told is what each heard from the one before it."""

import os
from typing import Any

from mpi4py import MPI
from ranks import tell


def hello(comm: Any) -> dict[str, Any]:
    """Pass a greeting around the ring."""
    rank, size = comm.Get_rank(), comm.Get_size()
    greeting = f"rank {rank} of {size} on {os.uname().nodename}"
    return {"heard": comm.sendrecv(greeting, dest=(rank + 1) % size, source=(rank - 1) % size)}


if __name__ == "__main__":
    tell(MPI.COMM_WORLD, hello(MPI.COMM_WORLD) | {"library": MPI.Get_library_version().split(",")[0]})
