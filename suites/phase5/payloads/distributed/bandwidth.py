#!/usr/bin/python3
"""How fast all_reduce is.

Arguments: MiB of a tensor, and how many times it is reduced. Told are the seconds of each.
"""

import sys
import time
from typing import Any

import torch
from processes import settle, tell, together
from torch import distributed

MIB = 2**20


def reduced(device: torch.device, size: int, times: int) -> dict[str, Any]:
    """Reduce ``size`` MiB that often; ``wrong`` counts elements that are not the sum."""
    world = distributed.get_world_size()
    seconds, wrong = [], 0
    for turn in range(times + 1):
        tensor = torch.full((size * MIB // 4,), float(distributed.get_rank() + 1), device=device)
        distributed.barrier()
        settle(device)
        since = time.perf_counter()
        distributed.all_reduce(tensor)
        settle(device)
        if turn:  # connections and buffers are made in the first
            seconds.append(time.perf_counter() - since)
        wrong += int((tensor != world * (world + 1) / 2).sum())
    return {"seconds": seconds, "wrong": wrong}


if __name__ == "__main__":
    size_mib, repeat = int(sys.argv[1]), int(sys.argv[2])
    with together() as joined:
        tell(joined, reduced(joined, size_mib, repeat) | {"bytes": size_mib * MIB})
