"""What the checks of monitoring share: facts of the machines, and an interface that does not answer as a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.facts import Fact
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.monitoring import ApiError, Monitoring, Series, Target
from pytest_ai_how.shell import Result

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Process:
    """A process: the number of the user that it runs as, and its program's name."""

    uid: int
    program: str


def parse_ps(text: str) -> dict[int, Process]:
    """Read ``ps -e -o pid= -o uid= -o comm=`` (procps-ng 4.0.4), by the number of the process.

    >>> parse_ps("    178     102 prometheus")
    {178: Process(uid=102, program='prometheus')}
    """
    lines = (line.split(maxsplit=2) for line in text.splitlines() if line.strip())
    return {int(pid): Process(int(uid), program) for pid, uid, program in lines}


PROCESSES: Fact[dict[int, Process]] = Fact(
    "its processes", ("ps", "-e", "-o", "pid=", "-o", "uid=", "-o", "comm="), parse_ps
)


@contextmanager
def answering() -> Iterator[None]:
    """Let a check fail, and not break, where a daemon does not answer or does not get there in time."""
    try:
        yield
    except (ApiError, DeadlineExceeded) as error:
        raise AssertionError(str(error)) from error


def kept(evidence: Evidence, told: tuple[T, Result]) -> T:
    """What was told, with the answer as evidence."""
    evidence.result(told[1])
    return told[0]


def asked(monitoring: Monitoring, evidence: Evidence) -> tuple[Target, ...]:
    """All targets, once all are up, or as they are after some scrapes: what has just started is late by one."""
    return kept(evidence, monitoring.settled(lambda target: target.health == "up", "each target up"))


def gives(
    monitoring: Monitoring, targets: Sequence[Target], query: str, evidence: Evidence
) -> dict[str, tuple[Series, ...]]:
    """What a query gives of each machine."""
    return monitoring.by_node(kept(evidence, monitoring.prometheus.query(query)), targets)
