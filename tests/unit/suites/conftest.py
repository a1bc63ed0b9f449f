"""Fixtures that the tests of checks share: what the suites' own fixtures give a check, with no run around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements


@pytest.fixture
def evidence() -> Iterator[Evidence]:
    """Evidence that something must be attached to: a check without any proves nothing."""
    found = Evidence()
    yield found
    assert found.samples, "the check attached no evidence"


@pytest.fixture
def no_evidence() -> Iterator[Evidence]:
    """For a check that is red before it has anything to show."""
    found = Evidence()
    yield found
    assert not found.samples, "the check attached evidence: ask for 'evidence'"


@pytest.fixture
def measure() -> Measurements:
    """Judging by the limits that ship."""
    return Measurements(load_limits("local"))


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lease]:
    """A run's claim on a cluster, with state and caches of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = Lease.acquire("plug", "r1")
    yield found
    found.release()
