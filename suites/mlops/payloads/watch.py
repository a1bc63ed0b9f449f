"""Have nvidia-smi write down what GPUs do, twice a second: a line a GPU; UUID, percent busy, MiB in use and in all."""

import subprocess
from pathlib import Path

ASKED = "--query-gpu=uuid,utilization.gpu,memory.used,memory.total"


def watch(path: Path, ids: str = "") -> "subprocess.Popen[bytes]":
    """Write into ``path`` until the process is ended; ``ids`` are those of nvidia-smi (default: all that it sees)."""
    words = ["nvidia-smi", ASKED, "--format=csv,noheader,nounits", "--loop-ms=500", *([f"--id={ids}"] if ids else [])]
    with path.open("wb") as file:
        return subprocess.Popen(words, stdout=file)
