#!/usr/bin/python3
"""Write known blocks at the end of a file until one cannot be written; tell as JSON how far that went and the error.

Arguments: the file, how many blocks of 1 MiB to write, and optionally ``read``: then they are compared instead.
"""

import errno
import hashlib
import json
import os
import sys

path, blocks, reading = sys.argv[1], int(sys.argv[2]), sys.argv[3:] == ["read"]
SIZE = 2**20


def block(number: int) -> bytes:
    """A block whose content follows from its number, and does not compress."""
    seed = hashlib.sha256(str(number).encode()).digest()
    return hashlib.shake_256(seed).digest(SIZE)


written, error = 0, ""
descriptor = os.open(path, os.O_RDONLY if reading else os.O_WRONLY | os.O_CREAT, 0o644)
try:
    for number in range(blocks):
        if reading:
            if os.pread(descriptor, SIZE, number * SIZE) != block(number):
                error = f"block {number} is not what was written"
                break
        else:
            data, done = block(number), 0
            while done < SIZE:
                done += os.pwrite(descriptor, data[done:], number * SIZE + done)
            os.fsync(descriptor)
        written = number + 1
except OSError as failed:
    error = errno.errorcode[failed.errno or 0]
finally:
    try:
        os.close(descriptor)
    except OSError as failed:
        error = error or errno.errorcode[failed.errno or 0]
print(json.dumps({"blocks": written, "error": error}))
