#!/usr/bin/python3
"""Pass data around the ring until a file ``stop`` lies in a folder, but no longer than a minute.

Argument: the folder. Each rank writes ``rank-N.json`` there, with its node and its process, when data has flowed.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from mpi4py import MPI
from ranks import tell

#: Bytes of a message: too many to go with the request that announces it.
MESSAGE = 256 * 1024
LONGEST = 60.0


def exchange(comm: Any, folder: Path) -> dict[str, Any]:
    """Exchange; a rank tells how many messages it got whole."""
    rank, size = comm.Get_rank(), comm.Get_size()
    left, deadline, whole, going = (rank - 1) % size, time.monotonic() + LONGEST, 0, True
    while going:
        got = comm.sendrecv(bytes([rank]) * MESSAGE, dest=(rank + 1) % size, source=left)
        whole += got == bytes([left]) * MESSAGE
        if whole == 1:
            me = json.dumps({"rank": rank, "node": os.uname().nodename, "pid": os.getpid()})
            (folder / f"rank-{rank}.new").write_text(me)
            (folder / f"rank-{rank}.new").rename(folder / f"rank-{rank}.json")
        time.sleep(0.02)
        going = comm.bcast(not (folder / "stop").exists() and time.monotonic() < deadline, root=0)
    return {"whole": whole}


if __name__ == "__main__":
    tell(MPI.COMM_WORLD, exchange(MPI.COMM_WORLD, Path(sys.argv[1])))
