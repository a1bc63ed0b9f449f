#!/usr/bin/python3
"""all_reduce, broadcast, all_gather and barrier with whole numbers; told is what each process got."""

import time
from typing import Any

import torch
from processes import settle, tell, together
from torch import distributed

#: Seconds that rank 0 comes late to the barrier.
LATE = 0.5


def collectives(device: torch.device) -> dict[str, Any]:
    """Each collective once, exactly, in whole numbers and in floating point."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    whole = torch.tensor([rank + 1, 10 * (rank + 1)], dtype=torch.int64, device=device)
    single = torch.full((1000,), rank + 0.5, dtype=torch.float32, device=device)
    distributed.all_reduce(whole)
    distributed.all_reduce(single)
    sent = torch.tensor([100 + rank], device=device)
    distributed.broadcast(sent, src=size - 1)
    parts = [torch.zeros(2, dtype=torch.int64, device=device) for _ in range(size)]
    distributed.all_gather(parts, torch.tensor([rank, rank**3], device=device))
    settle(device)
    return {
        "all_reduce": whole.tolist(),
        "single": sorted(set(single.tolist())),
        "broadcast": sent.tolist(),
        "all_gather": [part.tolist() for part in parts],
        "waited": barrier(device),
    }


def barrier(device: torch.device) -> float:
    """Seconds in a barrier to which rank 0 comes late, from when all were there before."""
    distributed.barrier()
    settle(device)
    since = time.monotonic()
    if distributed.get_rank() == 0:
        time.sleep(LATE)
    distributed.barrier()
    settle(device)
    return time.monotonic() - since


if __name__ == "__main__":
    with together() as joined:
        tell(joined, collectives(joined) | {"late": LATE})
