#!/usr/bin/python3
"""Write blocks of random data, each a file that is named by its number and its SHA-256 once it is whole on the servers.

Arguments: the folder, the log (a JSON object a line, on this node's own memory), the file that ends it, bytes a block,
seconds between blocks. A block that could not be written is tried again.
"""

import errno
import hashlib
import json
import os
import sys
import time
from pathlib import Path

folder, log, stop, size, pace = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])


def write(number: int) -> None:
    """Write one block under another name, have it on the servers, and give it its own."""
    data = os.urandom(size)
    part = folder / ".part"
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(folder / f"{number:06d}-{hashlib.sha256(data).hexdigest()}")


number = 0
with Path(log).open("a", buffering=1) as said:
    while not stop.exists():
        begun = time.time()
        try:
            write(number)
        except OSError as error:
            failed = errno.errorcode.get(error.errno or 0, str(error.errno))
            said.write(json.dumps({"n": number, "begun": begun, "at": time.time(), "error": failed}) + "\n")
        else:
            said.write(json.dumps({"n": number, "begun": begun, "at": time.time(), "error": ""}) + "\n")
            number += 1
        time.sleep(pace)
