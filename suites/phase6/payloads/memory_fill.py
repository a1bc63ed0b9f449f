#!/usr/bin/python3
"""Fill FILL MiB; if UNTIL names a file, stay until it exists; tell whether the memory still holds its pattern."""

import os
import time
from pathlib import Path

size = int(os.environ["FILL"]) * 1024 * 1024
block = bytes(range(256)) * 4096
memory = bytearray()
while len(memory) < size:
    memory += block
print("filled", len(memory), flush=True)
until, deadline = os.environ.get("UNTIL", ""), time.monotonic() + 60
while until and not Path(until).exists() and time.monotonic() < deadline:
    time.sleep(0.05)
print("intact" if memory.count(block) == len(memory) // len(block) else "changed")
