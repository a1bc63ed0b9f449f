"""What a node listens on, and its connections to others, with the processes that hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pytest_ai_how.listening import LISTENING, Listener
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection, from this end: ``10.78.0.11:12500``, the other end, and who holds this one."""

    here: str
    there: str
    pids: frozenset[int]

    @property
    def ports(self) -> frozenset[int]:
        """The ports of both ends."""
        return frozenset(int(end.rpartition(":")[2]) for end in (self.here, self.there))

    def __str__(self) -> str:
        return f"{self.here} to {self.there}"


def listeners(node: Node, evidence: Evidence) -> frozenset[Listener]:
    """All that a node listens on and others reach."""
    shown = node.run(*LISTENING.argv)
    evidence.result(shown, f"{node.name}: {LISTENING.name}")
    return frozenset(one for one in LISTENING.of(shown) if not one.local)


def appeared(before: Iterable[Listener], now: Iterable[Listener]) -> tuple[Listener, ...]:
    """What is listened on now and was not before; daemons that were there may have handed theirs to children."""
    old = {(one.protocol, one.address, one.port) for one in before}
    return tuple(one for one in now if (one.protocol, one.address, one.port) not in old)


def connections(node: Node, evidence: Evidence) -> tuple[Connection, ...]:
    """All established TCP connections of a node but those within itself."""
    shown = node.run("ss", "-H", "-n", "-t", "-p", "state", "established", "not", "dst", "127.0.0.0/8")
    evidence.result(shown, f"{node.name}: its connections")
    return tuple(parse_connections(shown.stdout))


def parse_connections(text: str) -> Iterator[Connection]:
    """Read ``ss -Hntp state established`` (iproute2 6.15), which leaves the state out.

    >>> print(*parse_connections('0 0 10.78.0.11:50885 10.78.0.12:12501 users:(("python3",pid=1115,fd=15))'))
    10.78.0.11:50885 to 10.78.0.12:12501
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4:
            yield Connection(words[2], words[3], frozenset(map(int, re.findall(r"pid=(\d+)", line))))
