"""Waiting for a service: until it is ready, and no longer than there is hope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.errors import AiHowError, DeadlineExceeded, HostKeyError, StepFailed
from pytest_ai_how.services.protocol import Cause, Explains, Service

# The last looks before a service is ready are what a bring-up is late by.
_LOOK_FIRST, _LOOK_AT_MOST = 0.03, 0.2
#: Seconds between two looks for what no waiting mends; it is believed when both see it.
HOPE = 3.0


def await_ready(service: Service, within: float, cluster: str, stop: Callable[[], None], pace: float = 1.0) -> None:
    """Return as soon as ``service`` of ``cluster`` has no faults. ``stop`` is called before each look, and may raise.

    Raises :class:`StepFailed` after ``within`` seconds, and long before for what lies behind the faults and is final: a
    unit that systemd has given up, a port that another program has taken.
    """
    watch = _Watch(service, HOPE * pace)

    def settled() -> bool:
        stop()
        return watch.settled()

    try:
        wait_for(settled, within=within, what=f"{service.name} ready", every=_LOOK_FIRST, at_most=_LOOK_AT_MOST)
    except DeadlineExceeded as error:
        watch.causes = _causes(service)
        raise _failed(watch, cluster, f"still after {within:g} s") from error
    if watch.faults:
        raise _failed(watch, cluster, "which no waiting mends")


@dataclass
class _Watch:
    """What was seen of a service while it was waited for; final causes are looked for every ``pause`` seconds."""

    service: Service
    pause: float
    faults: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    _next: Deadline = field(init=False)

    def __post_init__(self) -> None:
        self._next = Deadline(self.pause)

    def settled(self) -> bool:
        """Whether it is ready, or can't become so."""
        self.faults = _faults(self.service)
        return not self.faults or self._hopeless()

    def _hopeless(self) -> bool:
        if not self._next.passed:
            return False
        self._next = Deadline(self.pause)
        before, self.causes = self.causes, _causes(self.service)
        return any(cause.final and cause in before for cause in self.causes)


def _failed(watch: _Watch, cluster: str, how: str) -> StepFailed:
    # What is final first: it is what has to be cured.
    ordered = sorted(watch.causes, key=lambda cause: not cause.final)
    found = (*(cause.text for cause in ordered), *watch.faults)
    where, _, seen = found[0].partition(": ")
    more = f" (and {len(found) - 1} more: {'; '.join(found[1:])})" if found[1:] else ""
    return StepFailed(
        where,
        f"{seen or where}{more}, {how}",
        expected=f"{watch.service.name} to be ready",
        cure=f"look inside: pytest-ai-how ssh --cluster {cluster} {where}",
    )


def _faults(service: Service) -> tuple[str, ...]:
    """Why it is not ready; a machine that can't be asked is a reason too."""
    try:
        return service.faults()
    except (AiHowError, ExceptionGroup) as error:
        first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        if isinstance(first, HostKeyError) or not isinstance(first, AiHowError):
            raise
        return (str(first).splitlines()[0],)


def _causes(service: Service) -> tuple[Cause, ...]:
    """What lies behind its faults, where it can tell and can be asked."""
    if not isinstance(service, Explains):
        return ()
    try:
        return service.causes()
    except (AiHowError, ExceptionGroup):
        return ()
