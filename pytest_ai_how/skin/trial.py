"""One test's way to its verdict, from what pytest says of its set-up, call and tear-down."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from pytest_ai_how.errors import AiHowError, StepBlocked
from pytest_ai_how.report.model import Verdict
from pytest_ai_how.report.redact import Redactor

# A pytest.skip() by pytest-dependency means that the test before it did not pass.
_DEPENDENCY = "pytest_dependency"


class Blocked(Exception):
    """The check is not tried, because what it builds on failed."""


@dataclass(slots=True)
class Trial:
    """What a test has come to so far.

    ``strict``: it is a check, and must not skip or pass without evidence. ``excuse``: why it is not applicable.
    ``called``: its function came to an end, well or not.
    """

    strict: bool
    excuse: str = ""
    called: bool = False
    verdict: Verdict = Verdict.PASSED
    reason: str = ""
    traces: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    _clock: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since it began, by a clock that does not jump."""
        return time.monotonic() - self._clock

    def note(self, verdict: Verdict, reason: str, trace: str = "") -> None:
        """Take in what one phase came to: the first that was not passed decides, except that a skip can get worse."""
        if self.verdict in (Verdict.PASSED, Verdict.NOT_APPLICABLE):
            self.verdict, self.reason = verdict, reason
        if trace:
            self.traces.append(trace)


def judge(error: BaseException, trial: Trial, when: str) -> tuple[Verdict, str]:
    """The verdict that an exception in phase ``when`` means, and its reason in one line or more."""
    if isinstance(error, pytest.skip.Exception):
        return _judge_skip(error, trial)
    leaves = list(_leaves(error))
    if blocked := [one for one in leaves if isinstance(one, Blocked | StepBlocked)]:
        return Verdict.BLOCKED, words(blocked[0])
    if when == "call" and all(isinstance(one, AssertionError | pytest.fail.Exception) for one in leaves):
        return Verdict.FAILED, words(error)
    return Verdict.BROKEN, words(error)


def _judge_skip(error: BaseException, trial: Trial) -> tuple[Verdict, str]:
    said = str(error) or "no reason given"
    if trial.excuse:
        return Verdict.NOT_APPLICABLE, trial.excuse
    if _raised_by(error, _DEPENDENCY):
        return Verdict.BLOCKED, f"blocked: {said}"
    if trial.strict:
        return Verdict.BROKEN, f"skip without a declared capability: {said}"
    return Verdict.NOT_APPLICABLE, f"skipped: {said}"


def words(error: BaseException) -> str:
    """What an error says: its own words if it is one of ours or an assertion, else its kind before them."""
    if isinstance(error, BaseExceptionGroup):
        first = words(error.exceptions[0])
        return f"{first} (and {len(error.exceptions) - 1} more)" if len(error.exceptions) > 1 else first
    text = str(error).strip()
    if isinstance(error, AiHowError | AssertionError | Blocked | pytest.fail.Exception):
        return text or f"{type(error).__name__} without a message"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _raised_by(error: BaseException, module: str) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == module for frame, _ in frames)


def clean(report: pytest.TestReport, redactor: Redactor) -> None:
    """Take secrets out of what pytest itself shows of a test and writes (``--junitxml``): traceback and output."""
    if report.failed and (text := redactor.text(report.longreprtext)) != report.longreprtext:
        report.longrepr = text
    report.sections = [(name, redactor.text(content)) for name, content in report.sections]
