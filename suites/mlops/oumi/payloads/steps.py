"""Run the steps of a job one after the other, and record each: how it ended, how long it took, how much memory.

    steps.py STEPS RECORD

``STEPS`` is a JSON list of objects with ``name``, ``argv`` and ``env``. What a step says goes into ``<name>.out`` and
``<name>.err`` in the folder that the job runs in; what its GPUs did meanwhile, where the job has some, into
``<name>.gpus.csv``. ``RECORD`` is written anew after each step; the first that fails ends the job with its status, and
the last lines of its standard error, or of its output where it said nothing there. ``peak`` is the most memory that
one process had, in MiB.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from watch import watch

LAST = 15
#: The GPUs that the job was given; who starts it says so (Slurm, or our own launcher).
GPUS = os.environ.get("CUDA_VISIBLE_DEVICES", "") if shutil.which("nvidia-smi") else ""


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Run one step and tell how it went."""
    name, began = step["name"], time.time()
    watched = watch(Path(f"{name}.gpus.csv"), GPUS) if GPUS else None
    streams = [os.open(f"{name}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for kind in ("out", "err")]
    moves = [(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams, 1)]
    pid = os.posix_spawnp(step["argv"][0], step["argv"], os.environ | step["env"], file_actions=moves)
    _, ended, usage = os.wait4(pid, 0)
    if watched:
        watched.kill()
        watched.wait()
    for stream in streams:
        os.close(stream)
    status = os.waitstatus_to_exitcode(ended)
    seconds = time.time() - began
    return {"name": name, "status": status, "began": began, "seconds": seconds, "peak": usage.ru_maxrss / 1024}


def last(step: str, stream: str) -> list[str]:
    """The last lines of what a step said."""
    return Path(f"{step}.{stream}").read_text(encoding="utf-8", errors="replace").splitlines()[-LAST:]


def main(steps: list[dict[str, Any]], record: Path) -> int:
    """Run all; the status of the first that fails."""
    done: list[dict[str, Any]] = []
    for step in steps:
        done.append(run(step))
        record.write_text(json.dumps(done), encoding="utf-8")
        if done[-1]["status"]:
            print(*(last(step["name"], "err") or last(step["name"], "out")), sep="\n", file=sys.stderr)
            return abs(int(done[-1]["status"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])))
