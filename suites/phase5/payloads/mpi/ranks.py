"""What the MPI programs of this folder have in common: how the ranks of a job tell what each of them found."""

import json
import os
from typing import Any


def tell(comm: Any, found: dict[str, Any]) -> None:
    """Gather what each rank found and where it ran; rank 0 prints it, by rank, as one line of JSON."""
    me = {
        "rank": comm.Get_rank(),
        "size": comm.Get_size(),
        "node": os.uname().nodename,
        "pmix": os.environ.get("PMIX_NAMESPACE", ""),
        "container": os.environ.get("APPTAINER_CONTAINER", ""),
    }
    everybody = comm.gather(me | found, root=0)
    if comm.Get_rank() == 0:
        print(json.dumps(everybody), flush=True)
