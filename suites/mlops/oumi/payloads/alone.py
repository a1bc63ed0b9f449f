"""Show that there is no network here, then become another program, which has none either.

    unshare --user --map-current-user --net python3 alone.py FOUND PROGRAM ARGUMENT…

``FOUND`` gets, as JSON, the interfaces, and what connecting to addresses answers by name. Addresses are of the blocks
for documentation (RFC 5737): nobody has them, and without a network they can't even be tried.
"""

import errno
import json
import os
import socket
import sys
from pathlib import Path

ADDRESSES = ("192.0.2.1", "198.51.100.1")


def answer(address: str) -> str:
    """What connecting says: ENETUNREACH where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.settimeout(2)
        code = tried.connect_ex((address, 443))
    return errno.errorcode.get(code, str(code))


if __name__ == "__main__":
    interfaces = sorted(name for _, name in socket.if_nameindex())
    found = {"interfaces": interfaces, "answers": {address: answer(address) for address in ADDRESSES}}
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is wanted
