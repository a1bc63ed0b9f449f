#!/usr/bin/python3
"""Point to point and all common collectives with small numbers; told is what each rank got from each of them."""

from array import array
from typing import Any

from mpi4py import MPI
from ranks import tell


def point_to_point(comm: Any) -> dict[str, Any]:
    """Objects around the ring, and numbers from memory to memory the other way."""
    rank, size = comm.Get_rank(), comm.Get_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    sent, got = array("d", [rank + 0.5] * 3), array("d", [0.0] * 3)
    request = comm.Isend([sent, MPI.DOUBLE], dest=left, tag=7)
    comm.Recv([got, MPI.DOUBLE], source=right, tag=7)
    request.Wait()
    return {"object": comm.sendrecv(["from", rank], dest=right, source=left), "buffer": got.tolist()}


def collectives(comm: Any) -> dict[str, Any]:
    """Each collective once."""
    rank, size = comm.Get_rank(), comm.Get_size()
    found = {
        "bcast": comm.bcast(100 + rank, root=size - 1),
        "scatter": comm.scatter([n * n for n in range(size)] if rank == 0 else None, root=0),
        "gather": comm.gather(10 * rank, root=size - 1),
        "allgather": comm.allgather(rank**3),
        "alltoall": comm.alltoall([100 * rank + n for n in range(size)]),
        "reduce": comm.reduce(rank + 1, op=MPI.SUM, root=0),
        "allreduce": comm.allreduce(rank + 1, op=MPI.PROD),
        "scan": comm.scan(rank + 1, op=MPI.SUM),
    }
    comm.Barrier()
    return found


if __name__ == "__main__":
    tell(MPI.COMM_WORLD, point_to_point(MPI.COMM_WORLD) | collectives(MPI.COMM_WORLD))
