#!/usr/bin/python3
"""How fast all_reduce is; over gloo also how fast a plain TCP stream is between the first process and the last.

Arguments: MiB of a tensor, and how many times it is reduced and streamed. Told are the seconds of each.
"""

import os
import socket
import sys
import time
from typing import Any

import torch
from processes import PATIENCE, settle, tell, together
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


def streamed(size: int, times: int) -> list[float]:
    """Send ``size`` MiB that often from the last process to the first, whose clock counts; told by that one alone."""
    rank, last, address = distributed.get_rank(), distributed.get_world_size() - 1, os.environ["MASTER_ADDR"]
    port: list[Any] = [None]
    server = None
    if rank == 0:
        server = socket.create_server(("", int(os.environ["MASTER_PORT"]) + 1), backlog=1)
        port = [server.getsockname()[1]]
    distributed.broadcast_object_list(port, src=0)
    if rank == last and rank:
        with socket.create_connection((address, port[0]), timeout=PATIENCE) as sender:
            data = bytes(MIB)
            for _ in range(size * times):
                sender.sendall(data)
    return received(server, size, times) if server else []


def received(server: socket.socket, size: int, times: int) -> list[float]:
    """Seconds for each ``size`` MiB that come."""
    with server, server.accept()[0] as sender:
        sender.settimeout(PATIENCE)
        buffer, seconds = bytearray(MIB), []
        for _ in range(times):
            since, left = time.perf_counter(), size * MIB
            while left:
                got = sender.recv_into(buffer, min(left, MIB))
                if not got:
                    raise ConnectionError(f"the stream ended {left} bytes early")
                left -= got
            seconds.append(time.perf_counter() - since)
        return seconds


if __name__ == "__main__":
    size_mib, repeat = int(sys.argv[1]), int(sys.argv[2])
    with together() as joined:
        found = reduced(joined, size_mib, repeat)
        if joined.type == "cpu":
            found["stream"] = streamed(size_mib, repeat)
        tell(joined, found | {"bytes": size_mib * MIB})
