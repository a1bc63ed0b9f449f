"""Daemons made for the purpose on a machine: one that becomes ready, and one for each reason not to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.node import Node
from pytest_ai_how.services.readiness import LONGEST, Daemon, await_ready

# Seconds that a daemon which will never be ready is waited for.
_PATIENCE = 2.0
_UNIT = "ai-how-ready"
# Prints two ports that nobody has: held at once, so that they differ.
_PORTS = """
from socket import create_server
with create_server(("", 0)) as one, create_server(("", 0)) as other:
    print(one.getsockname()[1], other.getsockname()[1])
"""
#: What is tried, and the words by which the utility must name what is wrong; none: it is ready.
CASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ready": (),
        "never active": ("unit ai-how-ready-starting.service is activating",),
        "not installed": ("unit ai-how-ready-nowhere.service is not-found",),
        "port closed": ("nothing listens on port ", "expected ai-how-ready-silent.service"),
        "port taken": (" is taken by python3 ", "expected ai-how-ready-late.service"),
        "probe refused": ("exited with 3: not yet",),
        "probe hangs": ("did not end within ",),
    }
)


@dataclass(frozen=True, slots=True)
class Tried:
    """One wait: what it raised ('' when it ended well), and the seconds that it took."""

    said: str
    seconds: float


def tried(node: Node) -> dict[str, Tried]:
    """Wait for each daemon of :data:`CASES` on the machine, all at once; nothing of them stays."""
    with _made(node) as daemons, ThreadPoolExecutor(len(daemons)) as pool:
        patience = {name: _PATIENCE if CASES[name] else LONGEST for name in daemons}
        waits = {name: pool.submit(_wait, node, daemon, patience[name]) for name, daemon in daemons.items()}
        return {name: wait.result() for name, wait in waits.items()}


def _wait(node: Node, daemon: Daemon, patience: float) -> Tried:
    began, said = time.monotonic(), ""
    try:
        await_ready(node, daemon, patience)
    except DeadlineExceeded as error:
        said = str(error)
    return Tried(said, time.monotonic() - began)


@contextmanager
def _made(node: Node) -> Iterator[dict[str, Daemon]]:
    port, free = (int(word) for word in node.run("python3", "-c", _PORTS).stdout.split())
    server = ("python3", "-m", "http.server", str(port), "--bind", "127.0.0.1")
    units = {
        "good": server,
        "starting": ("sleep", "infinity"),
        "silent": ("sleep", "infinity"),
        "late": server,
    }
    try:
        _start(node, "good", "simple", units["good"])
        await_ready(node, Daemon(f"{_UNIT}-good.service", port))
        _start(node, "starting", "notify", units["starting"])
        _start(node, "silent", "simple", units["silent"])
        _start(node, "late", "simple", units["late"])
        ask = ("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        yield {
            "ready": Daemon(f"{_UNIT}-good.service", port, ask),
            "never active": Daemon(f"{_UNIT}-starting.service"),
            "not installed": Daemon(f"{_UNIT}-nowhere.service"),
            "port closed": Daemon(f"{_UNIT}-silent.service", free),
            "port taken": Daemon(f"{_UNIT}-late.service", port),
            "probe refused": Daemon(f"{_UNIT}-good.service", port, ("sh", "-c", "echo not yet >&2; exit 3")),
            "probe hangs": Daemon(f"{_UNIT}-good.service", port, ("sleep", "infinity")),
        }
    finally:
        names = [f"{_UNIT}-{name}.service" for name in units]
        node.run("systemctl", "stop", *names, check=False)
        node.run("systemctl", "reset-failed", *names, check=False)


def _start(node: Node, name: str, kind: str, argv: tuple[str, ...]) -> None:
    node.run("systemd-run", "--no-block", f"--unit={_UNIT}-{name}", f"--property=Type={kind}", *argv)
