#!/usr/bin/python3
"""Reach ports of all nodes from all nodes: each listens on them, and each connects to all others.

A port that something else has, such as srun or another job, is in use and not broken: the next free one stands in.

Arguments: a folder that all nodes see; the addresses of the nodes as JSON {name: address}; the ports, with commas; the
own name, if it is not that of the machine. Tells as JSON how many connections were tried, and what became of the
others: {"from": …, "to": …, "port": …, "error": …}.
"""

import errno
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Seconds to wait for a connection, which takes a millisecond, and for the others to be there.
PATIENCE, MEETING = 2.0, 20.0
#: How far from a port in use another may stand in for it, between the lowest and the highest that are asked for.
NEAR = 20


def listen(name: str, address: str, port: int, within: range) -> tuple[int, str]:
    """Answer with ``name`` whoever connects, from now on; returns the port taken, and why none could be."""
    server, why = None, ""
    near = [*range(port, port + NEAR), *range(port - 1, port - NEAR, -1)]
    for taken in filter(within.__contains__, near):
        try:
            server = socket.create_server((address, taken))
            break
        except OSError as error:
            why = why or os.strerror(error.errno or 0)
            if error.errno != errno.EADDRINUSE:
                break
    if server is None:
        return port, why

    def answer() -> None:
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(name.encode())

    threading.Thread(target=answer, daemon=True).start()
    return taken, ""


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


def meet(folder: Path, what: str, name: str, everybody: int, said: object = None) -> dict[str, Any]:
    """Say to the others how far this is, wait until all are, and return what each said."""
    written = folder / f".{what}-{name}"
    written.write_text(json.dumps(said))
    written.rename(folder / f"{what}-{name}")
    deadline = time.monotonic() + MEETING
    while len(there := list(folder.glob(f"{what}-*"))) < everybody and time.monotonic() < deadline:
        time.sleep(0.02)
    return {path.name.removeprefix(f"{what}-"): json.loads(path.read_text()) for path in there}


def main(folder: Path, nodes: dict[str, str], ports: list[int], me: str) -> dict[str, object]:
    """Listen, meet, reach, and stay until all have."""
    others = {name: address for name, address in nodes.items() if name != me}
    within = range(min(ports), max(ports) + 1)
    heard = {port: listen(me, nodes[me], port, within) for port in ports}
    errors = {("", me, port): why for port, (_, why) in heard.items()}
    taken = [port for port, _ in heard.values()]
    told = meet(folder, "listening", me, len(nodes), taken)
    tried = [(me, name, port) for name in others for port in told.get(name, ports)]
    errors |= {(me, name, port): reach(name, others[name], port) for _, name, port in tried}
    meet(folder, "done", me, len(nodes))
    failed = [{"from": a, "to": b, "port": port, "error": said} for (a, b, port), said in errors.items() if said]
    return {"node": me, "tried": len(tried), "failed": failed}


if __name__ == "__main__":
    own = sys.argv[4] if len(sys.argv) > 4 else os.uname().nodename
    print(json.dumps(main(Path(sys.argv[1]), json.loads(sys.argv[2]), [*map(int, sys.argv[3].split(","))], own)))
