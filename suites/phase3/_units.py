"""Daemons on a node: what systemd says of a unit, and what listens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd says of a unit: ``active``, ``enabled``, and the number of its main process (0: none)."""

    name: str
    active: str
    enabled: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} is {self.active} and {self.enabled}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes connections or datagrams, and the processes that hold it (none: the kernel)."""

    protocol: str
    port: int
    pids: frozenset[int]


def unit(node: Node, name: str, evidence: Evidence) -> Unit:
    """Ask systemd for a unit."""
    properties = "ActiveState,UnitFileState,MainPID"
    shown = node.run("systemctl", "show", f"--property={properties}", name)
    evidence.result(shown)
    facts = dict(line.partition("=")[::2] for line in shown.stdout.splitlines())
    return Unit(name, facts.get("ActiveState", ""), facts.get("UnitFileState", ""), int(facts.get("MainPID") or 0))


def listeners(node: Node, evidence: Evidence) -> tuple[Listener, ...]:
    """Everything on a node that listens on TCP or UDP."""
    shown = node.run("ss", "-H", "-l", "-n", "-t", "-u", "-p")
    evidence.result(shown)
    return tuple(parse_ss(shown.stdout))


def parse_ss(text: str) -> Iterator[Listener]:
    """Read ``ss -Hlntup`` (iproute2 6.15).

    >>> line = 'tcp LISTEN 0 128 0.0.0.0:8003 0.0.0.0:* users:(("beegfs-storage/",pid=412,fd=9))'
    >>> next(parse_ss(line))
    Listener(protocol='tcp', port=8003, pids=frozenset({412}))
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and (port := words[4].rpartition(":")[2]).isdigit():
            yield Listener(words[0], int(port), frozenset(map(int, re.findall(r"pid=(\d+)", line))))
