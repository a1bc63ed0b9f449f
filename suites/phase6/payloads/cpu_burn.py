#!/usr/bin/python3
"""Keep one process more than there are CPUs busy for SECONDS; tell, as JSON, what CPU time all of them got.

Before that, try to get at all CPUs: an affinity that is only set can be set anew, a cpuset can't be left.
"""

import json
import os
import time


def burn(seconds: float) -> float:
    """Compute for so long, and return the CPU seconds that this process got meanwhile."""
    value, before, until = 1, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(1000):
            value = value * 1103515245 % 2147483647
    return time.process_time() - before


seconds = float(os.environ["SECONDS_TO_BURN"])
cpus = os.cpu_count() or 1
allowed = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, range(cpus))
reachable = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, allowed)
# All begin when the gate shuts: on an emulated machine to start them takes longer than they compute.
waiting, gate = os.pipe()
pipes = []
for _ in range(cpus + 1):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(gate)
        os.read(waiting, 1)
        os.write(writer, repr(burn(seconds)).encode())
        os._exit(0)
    os.close(writer)
    pipes.append(reader)
started = time.monotonic()
os.close(gate)
cpu = sum(float(os.read(reader, 64)) for reader in pipes)
wall = time.monotonic() - started
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
told = {"affinity": allowed, "reachable": reachable, "processes": len(pipes)}
print(json.dumps({**told, "cpu_seconds": cpu, "wall_seconds": wall}))
