#!/usr/bin/python3
"""Tell, as JSON, which GPU devices this job may open and what Slurm told it about them."""

import errno
import json
import os
from pathlib import Path


def attempt(path: str) -> str:
    """Open a device; return the name of the error, or OK. ENXIO: allowed, but no driver is behind it."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "OK"


devices = sorted(str(path) for name in ("fakegpu", "nvidia") for path in Path("/dev").glob(f"{name}[0-9]*"))
names = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "SLURMD_NODENAME")
print(
    json.dumps(
        {
            "devices": {path: attempt(path) for path in devices},
            "null": attempt("/dev/null"),
            "environment": {name: os.environ[name] for name in names if name in os.environ},
        }
    )
)
