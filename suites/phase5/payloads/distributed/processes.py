"""What the PyTorch programs of this folder have in common: how processes find each other, and how they tell.

torchrun and plain RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are taken as they are; under srun they are
what Slurm says. The backend is NCCL where a process sees a GPU, and gloo elsewhere. Without Slurm, on two GPUs:

    torchrun --nproc-per-node=2 collectives.py
    torchrun --nproc-per-node=2 bandwidth.py 256 20
    torchrun --nproc-per-node=2 ddp.py
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from meeting import device, ending, meet
from torch import distributed

#: Seconds after which processes that wait for each other give up.
PATIENCE = 120


def from_slurm(slurm: dict[str, str]) -> dict[str, str]:
    """What torchrun would set, from what a job step of Slurm 24.11 with --resv-ports has in its environment.

    SLURM_STEP_NODELIST=node[01-02] and SLURM_STEP_RESV_PORTS=12000-12001: the first node, and its first port.
    """
    if "SLURM_PROCID" not in slurm:
        return {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", slurm["SLURM_STEP_NODELIST"])
    port = re.match(r"\d+", slurm.get("SLURM_STEP_RESV_PORTS", "29500"))
    return {
        "RANK": slurm["SLURM_PROCID"],
        "WORLD_SIZE": slurm["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": slurm["SLURM_LOCALID"],
        "MASTER_ADDR": "".join(part or "" for part in first.groups()) if first else "",
        "MASTER_PORT": port[0] if port else "",
    }


@contextmanager
def together() -> Iterator[torch.device]:
    """Join the other processes for the block, which yields the device to compute on, and end the process with it."""
    for name, value in from_slurm(dict(os.environ)).items():
        os.environ.setdefault(name, value)
    # Debian's PyTorch is built without libuv, and others do without it.
    os.environ.setdefault("USE_LIBUV", "0")
    torch.set_num_threads(1)
    mine = device()
    meet(mine, PATIENCE)
    with ending():
        yield mine
        distributed.barrier()
        if mine.type == "cuda":
            distributed.destroy_process_group()


def settle(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gpu(device: torch.device) -> str:
    """Which GPU a device is: its UUID, from PyTorch 2.5 on, or its number on this node; '' for a CPU."""
    if device.type != "cuda":
        return ""
    return f"{os.uname().nodename} {getattr(torch.cuda.get_device_properties(device), 'uuid', device)}"


def tell(device: torch.device, found: dict[str, Any]) -> None:
    """Gather what each process found and where it ran; rank 0 prints it, by rank, as one line of JSON."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    me = {
        "rank": rank,
        "size": size,
        "node": os.uname().nodename,
        "container": os.environ.get("APPTAINER_CONTAINER", ""),
        "backend": distributed.get_backend(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        # Two processes on one GPU would be no test of two.
        "gpu": gpu(device),
        "torch": torch.__version__,
    }
    everybody: list[Any] = [None] * size
    distributed.all_gather_object(everybody, me | found)
    if rank == 0:
        print(json.dumps(everybody), flush=True)
