"""A stand-in: lets Oumi's data-parallel training run over gloo where there is no CUDA. Upstream takes NCCL only.

Oumi loads it because OUMI_EXTRA_DEPS_FILE names it. What it puts in place of ``init_distributed`` of Oumi 0.9 does the
same, but for the device. Where CUDA is, it does nothing.
"""

import sys
from datetime import timedelta

import torch
from oumi.core import distributed


def init_distributed(backend: str = "gloo", timeout_minutes: float | None = None) -> None:  # noqa: ARG001
    """Join the processes by gloo, whatever backend was asked for."""
    mine = distributed.get_device_rank_info()
    timeout = timedelta(minutes=timeout_minutes) if timeout_minutes is not None else None
    torch.distributed.init_process_group("gloo", rank=mine.rank, world_size=mine.world_size, timeout=timeout)
    print(f"gloo in place of NCCL: rank {mine.rank} of {mine.world_size}", flush=True)


if not torch.cuda.is_available():
    distributed.init_distributed = init_distributed
    if "oumi.train" in sys.modules:
        sys.modules["oumi.train"].init_distributed = init_distributed  # type: ignore[attr-defined]  # a module
