#!/usr/bin/python3
"""Read blocks that another node writes and compare their SHA-256 with their names, past this node's cache.

Arguments: the folder, the log (a JSON object a line), the file that ends it. Without the last two: each block once, and
a JSON object with how many there are and which are wrong.
"""

import errno
import hashlib
import json
import os
import sys
import time
from pathlib import Path

folder, rest = Path(sys.argv[1]), sys.argv[2:]


def blocks() -> list[str]:
    """The names of the blocks that are whole."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def verified(name: str) -> str:
    """'' if a block is what its name says; else what is wrong with it."""
    try:
        with (folder / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "" if name.endswith(digest) else f"sha256 {digest}"


if not rest:
    found = {name: verified(name) for name in blocks()}
    print(json.dumps({"blocks": len(found), "wrong": {name: wrong for name, wrong in found.items() if wrong}}))
    raise SystemExit
log, stop, done = rest[0], Path(rest[1]), set()
with Path(log).open("a", buffering=1) as said:
    while not stop.exists():
        try:
            fresh = [name for name in blocks() if name not in done]
        except OSError as error:
            said.write(json.dumps({"n": -1, "at": time.time(), "error": errno.errorcode[error.errno or 0]}) + "\n")
            fresh = []
        for name in fresh:
            wrong = verified(name)
            said.write(json.dumps({"n": int(name[:6]), "at": time.time(), "error": wrong}) + "\n")
            if not wrong or wrong.startswith("sha256"):
                done.add(name)
        time.sleep(0.1)
