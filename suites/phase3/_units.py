"""Daemons on a node: what systemd says of a unit, and what listens."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_ai_how.listening import LISTENING, Listener
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


def unit(node: Node, name: str, evidence: Evidence) -> Unit:
    """Ask systemd for a unit."""
    properties = "ActiveState,UnitFileState,MainPID"
    shown = node.run("systemctl", "show", f"--property={properties}", name)
    evidence.result(shown)
    facts = dict(line.partition("=")[::2] for line in shown.stdout.splitlines())
    return Unit(name, facts.get("ActiveState", ""), facts.get("UnitFileState", ""), int(facts.get("MainPID") or 0))


def listeners(node: Node, evidence: Evidence) -> tuple[Listener, ...]:
    """Everything on a node that listens on TCP or UDP."""
    shown = node.run(*LISTENING.argv)
    evidence.result(shown)
    return LISTENING.of(shown)
