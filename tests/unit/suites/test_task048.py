"""The check of the readiness utilities goes red for one that tells too much, too little, or too late."""

from __future__ import annotations

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from suites.phase4 import test_task048_readiness as task048
from suites.phase4._readiness import CASES, Tried

# What was said of a real machine (systemd 257).
SAID = {
    "ready": "",
    "never active": "unit ai-how-ready-starting.service is activating (start), result success, expected active",
    "not installed": "unit ai-how-ready-nowhere.service is not-found, expected it to be installed",
    "port closed": "nothing listens on port 38333, expected ai-how-ready-silent.service",
    "port taken": "port 32817 is taken by python3 (process 371), expected ai-how-ready-late.service",
    "probe refused": "`sh -c 'echo not yet >&2; exit 3'` exited with 3: not yet, expected 0",
    "probe hangs": "`sleep infinity` did not end within 5 s: no output, expected 0",
}


def waits(**changes: Tried) -> dict[str, Tried]:
    said = {name: f"node02: not ready within 2 s; last seen: {text}\n  do: read" for name, text in SAID.items() if text}
    return {name: Tried(said.get(name, ""), 2.1) for name in CASES} | {
        name.replace("_", " "): tried for name, tried in changes.items()
    }


def check(found: dict[str, Tried]) -> Measurements:
    measure = Measurements(load_limits("local"))
    task048.test_readiness_is_told(found, "node02", Evidence(), measure)
    return measure


def test_what_is_well_passes() -> None:
    assert len(check(waits()).items) == len(CASES)


@pytest.mark.seen_to_fail("INF-42")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ready": Tried("node02: not ready", 30.0)}, "node02: a daemon that is well is not told to be ready: node02"),
        ({"never_active": Tried("", 0.1)}, "node02: 'never active' is told to be ready, expected a reason with 'unit"),
        ({"port_taken": Tried("", 0.1)}, "node02: 'port taken' is told to be ready, expected a reason with ' is taken"),
        (
            {"probe_hangs": Tried("localhost: did not end within 5 s", 6.0)},
            "node02: 'probe hangs' does not name the machine first: localhost: did not end",
        ),
        (
            {"not_installed": Tried("node02: not ready within 2 s\nunit x is not-found", 2.0)},
            "node02: 'not installed' is told as: node02: not ready within 2 s; expected it to say 'unit ai-how-ready",
        ),
    ],
)
def test_a_utility_that_tells_wrongly(changes: dict[str, Tried], said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check(waits(**changes))
    assert str(caught.value).startswith(said)


@pytest.mark.seen_to_fail("INF-42")
def test_a_wait_that_does_not_end_in_time() -> None:
    late = Tried(waits()["never active"].said, 31.0)
    with pytest.raises(LimitExceeded, match="^node02, never active: readiness.told is 31 s, expected at most 30 s"):
        check(waits(never_active=late))


@pytest.mark.seen_to_fail("INF-42")
def test_nothing_tried_is_no_pass() -> None:
    with pytest.raises(AssertionError, match="node02: 'ready' was not tried; expected ready, never active"):
        check({})
