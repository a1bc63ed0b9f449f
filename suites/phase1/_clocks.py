"""How far the clocks of machines are from each other, and how well that is known."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence

#: How often a clock is read; the quickest answer tells most.
READINGS = 3


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a machine's clock is ahead of this host's, in seconds, give or take ``uncertainty``."""

    node: str
    ahead: float
    uncertainty: float

    def __str__(self) -> str:
        return f"{self.node} is {self.ahead:+.4f} s from this host, ± {self.uncertainty:.4f} s"


def clock(node: Node, evidence: Evidence) -> Clock:
    """Read a machine's clock some times and keep the reading that took least.

    The machine read it at some moment of the round trip: at its middle, give or take half of it.
    """
    readings = []
    for _ in range(READINGS):
        before = time.time()
        told = node.run("date", "+%s.%N")
        after = time.time()
        evidence.result(told)
        readings.append(Clock(node.name, float(told.stdout) - (before + after) / 2, (after - before) / 2))
    return min(readings, key=lambda one: one.uncertainty)


def apart(clocks: Iterable[Clock]) -> tuple[Clock, Clock, float]:
    """The machine whose clock is furthest from those of the others, another one, and the seconds between the two.

    Furthest is who is furthest from the middle one: a single clock that is wrong is named, whoever is compared to it.
    """
    known = sorted(clocks, key=lambda one: one.ahead)
    middle = known[len(known) // 2]
    worst = max(known, key=lambda one: abs(one.ahead - middle.ahead))
    other = max(known, key=lambda one: abs(one.ahead - worst.ahead))
    return worst, other, abs(worst.ahead - other.ahead)
