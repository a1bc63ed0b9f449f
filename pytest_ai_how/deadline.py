"""Waiting: every wait has a condition and a deadline, and this is the only place that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pytest_ai_how.errors import DeadlineExceeded

T = TypeVar("T")


class Deadline:
    """A point in monotonic time, so that a clock that jumps neither shortens nor extends a wait."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the deadline has passed."""
        return self.left == 0.0


def pause(seconds: float) -> None:
    """Sleep; for pacing only, never in place of a condition."""
    time.sleep(seconds)


def wait_for(  # noqa: PLR0913  keyword-only, and each says one thing about the wait
    probe: Callable[[], T | None],
    *,
    within: float | Deadline,
    what: str,
    where: str = "localhost",
    every: float = 0.05,
    at_most: float = 1.0,
    last_seen: Callable[[], str] | None = None,
    cure: str = "",
) -> T:
    """Call ``probe`` until it returns something true, and return that.

    The interval grows from ``every`` by a half each time, up to ``at_most`` seconds. ``last_seen`` describes the
    state for the error. Raises :class:`DeadlineExceeded` after ``within`` seconds; the probe is tried at least once.
    """
    deadline = within if isinstance(within, Deadline) else Deadline(within)
    interval = every
    while True:
        if found := probe():
            return found
        if deadline.passed:
            seen = f"; last seen: {last_seen()}" if last_seen else ""
            raise DeadlineExceeded(where, f"not {what} within {deadline.seconds:g} s{seen}", expected=what, cure=cure)
        pause(min(interval, deadline.left))
        interval = min(interval * 1.5, at_most)
