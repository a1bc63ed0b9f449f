#!/usr/bin/python3
"""Write into one folder at the same time as other nodes: append, flock or lockf; tell how often, as JSON.

Arguments: what, the folder, this node's name, how many nodes, how often.
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

what, folder, name, nodes, times = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])


def meet() -> None:
    """Wait until all are here."""
    (folder / f"here-{name}").touch()
    end = time.monotonic() + 60
    while len(list(folder.glob("here-*"))) < nodes:
        if time.monotonic() > end:
            raise SystemExit(f"{name}: the others did not come within 60 s: {sorted(folder.glob('here-*'))}")
        time.sleep(0.005)


def append() -> None:
    """Records of one write each, at the end of a file that is open all the time."""
    descriptor = os.open(folder / "records", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number in range(times):
        os.write(descriptor, f"{name} {number:06d}\n".encode())
    os.fsync(descriptor)
    os.close(descriptor)


def count(lock: Callable[[int, int], object]) -> None:
    """Read a number, and write it back one higher, with the lock held."""
    guard = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(times):
        lock(guard, fcntl.LOCK_EX)
        try:
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))
        finally:
            lock(guard, fcntl.LOCK_UN)
    os.close(guard)


meet()
begun = time.time()
if what == "append":
    append()
else:
    count({"flock": fcntl.flock, "lockf": fcntl.lockf}[what])
print(json.dumps({"node": name, "begun": begun, "ended": time.time(), "times": times}))
