#!/usr/bin/python3
"""Stay in a container until a file "go" exists, then read from the image what was not read before; tell it as JSON.

Arguments: a folder that is seen from outside, where a file named like the image's generation says that we run; and
the file of the image that tells its generation, if it is not the original.
"""

import json
import os
import sys
import time
from pathlib import Path

folder, generation = Path(sys.argv[1]), Path(sys.argv[2])


def which() -> str:
    """The generation of the image that this container runs on."""
    return generation.read_text() if generation.exists() else "original"


first = which()
(folder / first).write_text("running")
deadline = time.monotonic() + 60
while not (folder / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
import numpy  # noqa: E402  read from the image only now, after it was replaced

print(json.dumps({"node": os.uname().nodename, "first": first, "last": which(), "sum": int(numpy.arange(1000).sum())}))
