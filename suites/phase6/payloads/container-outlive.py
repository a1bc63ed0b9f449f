#!/usr/bin/python3
"""Stay in a container until a file exists, then read from the image what was not read before; tell what was seen.

Arguments: the file to wait for, and a file of the image that tells its generation.
"""

import json
import os
import sys
import time
from pathlib import Path

go, generation = Path(sys.argv[1]), Path(sys.argv[2])
first = generation.read_text() if generation.exists() else "original"
deadline = time.monotonic() + 60
while not go.exists() and time.monotonic() < deadline:
    time.sleep(0.05)
import numpy  # noqa: E402  read from the image only now, after it was replaced

print(
    json.dumps(
        {
            "node": os.uname().nodename,
            "released": go.exists(),
            "first": first,
            "last": generation.read_text() if generation.exists() else "original",
            "sum": int(numpy.arange(1000).sum()),
        }
    )
)
