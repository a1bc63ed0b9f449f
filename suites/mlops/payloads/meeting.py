"""How processes that torchrun or Slurm started meet, on which device each computes, and how they end.

It is shipped with the programs of suites/mlops and with those of suites/phase5.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed


def device() -> torch.device:
    """The GPU of this process among those of its machine, by LOCAL_RANK; the CPU where it sees none, or has no NCCL."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and distributed.is_nccl_available() else 0
    if not gpus:
        return torch.device("cpu")
    found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    torch.cuda.set_device(found)
    return found


def meet(computes: torch.device, seconds: int) -> None:
    """Meet the others over NCCL or gloo; who waits for one that does not come gives up after ``seconds``."""
    backend = "nccl" if computes.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=seconds))


@contextmanager
def ending() -> Iterator[None]:
    """End this process with the block: with status 0 only if that came to its end.

    gloo was seen to wait for ever where two processes take their connections down at the same time, so that is left to
    the kernel.
    """
    status = 1
    try:
        yield
        status = 0
    except Exception:  # noqa: BLE001  the process ends here, and its status tells
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
