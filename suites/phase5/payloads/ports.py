#!/usr/bin/python3
"""Reach ports of all nodes from all nodes: each listens on them, and each connects to all others.

Arguments: a folder that all nodes see; the addresses of the nodes as JSON {name: address}; the ports, with commas; the
own name, if it is not that of the machine. Tells as JSON how many connections were tried, and what became of the
others: {"from": …, "to": …, "port": …, "error": …}.
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

#: Seconds to wait for a connection, which takes a millisecond, and for the others to be there.
PATIENCE, MEETING = 2.0, 20.0


def listen(name: str, address: str, port: int) -> str:
    """Answer with ``name`` whoever connects, from now on; returns why that can't be."""
    try:
        server = socket.create_server((address, port))
    except OSError as error:
        return os.strerror(error.errno or 0)

    def answer() -> None:
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(name.encode())

    threading.Thread(target=answer, daemon=True).start()
    return ""


def reach(name: str, address: str, port: int) -> str:
    """Why ``name`` does not answer at this address; '' when it does."""
    try:
        with socket.create_connection((address, port), timeout=PATIENCE) as client:
            heard = client.makefile().read()
    except TimeoutError:
        return f"no answer within {PATIENCE:g} s"
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "" if heard == name else f"answered by {heard!r}"


def meet(folder: Path, what: str, name: str, everybody: int) -> None:
    """Wait until all are as far as this."""
    (folder / f"{what}-{name}").touch()
    deadline = time.monotonic() + MEETING
    while len(list(folder.glob(f"{what}-*"))) < everybody and time.monotonic() < deadline:
        time.sleep(0.02)


def main(folder: Path, nodes: dict[str, str], ports: list[int], me: str) -> dict[str, object]:
    """Listen, meet, reach, and stay until all have."""
    others = {name: address for name, address in nodes.items() if name != me}
    errors = {("", me, port): listen(me, nodes[me], port) for port in ports}
    meet(folder, "listening", me, len(nodes))
    tried = [(me, name, port) for name in others for port in ports]
    errors |= {(me, name, port): reach(name, others[name], port) for _, name, port in tried}
    meet(folder, "done", me, len(nodes))
    failed = [{"from": a, "to": b, "port": port, "error": said} for (a, b, port), said in errors.items() if said]
    return {"node": me, "tried": len(tried), "failed": failed}


if __name__ == "__main__":
    own = sys.argv[4] if len(sys.argv) > 4 else os.uname().nodename
    print(json.dumps(main(Path(sys.argv[1]), json.loads(sys.argv[2]), [*map(int, sys.argv[3].split(","))], own)))
