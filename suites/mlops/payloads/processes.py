"""One process alone, or those that torchrun started: how they meet, and where each computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from meeting import device, ending, meet
from torch import distributed

#: Seconds after which processes that wait for each other give up, unless told otherwise.
PATIENCE = 60


@dataclass(frozen=True)
class Me:
    """One process among ``size``, and the device that it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def gathered(self, found: Any) -> list[Any]:
        """What each process found, by rank; on all of them."""
        if self.alone:
            return [found]
        everybody: list[Any] = [None] * self.size
        distributed.all_gather_object(everybody, found)
        return everybody

    def describe(self) -> dict[str, Any]:
        """Which process this is and where."""
        cuda = self.device.type == "cuda"
        return {
            "rank": self.rank,
            "node": os.uname().nodename,
            "backend": "" if self.alone else distributed.get_backend(),
            "device": torch.cuda.get_device_name(self.device) if cuda else "cpu",
            "endpoint": "" if self.alone else _endpoint("AI_HOW_HEAD", "AI_HOW_PORT"),
            "master": "" if self.alone else _endpoint("MASTER_ADDR", "MASTER_PORT"),
            # Two processes on one GPU would be no test of two.
            "gpu": f"{getattr(torch.cuda.get_device_properties(self.device), 'uuid', self.device)}" if cuda else "",
        }


def _endpoint(host: str, port: str) -> str:
    return f"{os.environ.get(host, '')}:{os.environ.get(port, '')}"


@contextmanager
def joined() -> Iterator[Me]:
    """Join the others for the block, and end this process with it."""
    me = _meet()
    with ending():
        yield me
        if not me.alone:
            distributed.barrier()


def _meet() -> Me:
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    mine = device()
    if size > 1:
        meet(mine, int(os.environ.get("AI_HOW_PATIENCE", PATIENCE)))
    return Me(rank, size, mine)
