"""A cluster into which a test has put a fault is not used again, unless the fault was undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.record import Claim, new_record
from pytest_ai_how.lease.undo import Undo
from tests.unit.lease.widgets import CLAIM, NAME, kill, make, python, said

PROLOG = "test_faults.py::test_failing_prolog"
Undoers = Callable[[str, Path], list[Undo]]


@pytest.mark.parametrize("kept", [True, False])
def test_one_with_a_fault_in_it_is_made_anew(lease: Lease, widgets: Path, undoers: Undoers, kept: bool) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1"))
    Lease.join(NAME, "run1").breaks(PROLOG)  # as an xdist worker does
    if kept:
        lease.release("always")
    else:
        lease.close()
    other = Lease.acquire(NAME, "run2", CLAIM, undoers)
    assert not other.attached
    assert other.spoilt == f"run run1 ended while {PROLOG} had put a fault into it"
    assert widgets.read_text() == ""
    assert (other.record.faults, other.record.steps) == ((), {})
    other.release("always")
    assert Lease.acquire(NAME, "run3", CLAIM, undoers).spoilt == "", "said once"


def test_one_whose_fault_was_undone_is_used_again(lease: Lease, widgets: Path, undoers: Undoers) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1"))
    worker = Lease.join(NAME, "run1")
    worker.breaks(PROLOG)
    worker.mended(PROLOG)
    lease.release("always")
    again = Lease.acquire(NAME, "run2", CLAIM, undoers)
    assert (again.attached, again.spoilt) == (True, "")
    again.release()


def test_who_is_still_at_it_is_told_from_who_is_over(lease: Lease) -> None:
    """Tests that break different services run side by side: none is in the other's way."""
    worker, other = Lease.join(NAME, "run1"), Lease.join(NAME, "run1")
    assert other.left_broken() == ""
    worker.breaks(PROLOG)
    assert (worker.left_broken(), other.left_broken()) == ("", "")
    other.breaks(PROLOG)  # one test may run on two workers
    worker.mended(PROLOG)
    assert worker.left_broken() == ""
    other.left(PROLOG)
    assert (worker.left_broken(), other.left_broken()) == (PROLOG, PROLOG)
    other.mended(PROLOG)
    assert worker.left_broken() == ""


def test_a_killed_run_has_written_it_down(undoers: Undoers, widgets: Path) -> None:
    owner = python(
        """if True:
        import time
        from pytest_ai_how.lease.lease import Lease, Claim
        lease = Lease.acquire("aihowlease", "killed", Claim("fake", "f1"))
        lease.ensure("machines", "f", dict)
        lease.breaks("test_it.py::test_break")
        print("ready", flush=True)
        time.sleep(60)
        """
    )
    said(owner, "ready")
    kill(owner)
    lease = Lease.acquire(NAME, "run2", CLAIM, undoers)
    assert (lease.attached, lease.spoilt) == (
        False,
        "run killed ended while test_it.py::test_break had put a fault into it",
    )
    lease.release()


def test_each_that_breaks_something_is_named() -> None:
    """Some share the cluster, each with another service of it; one test may run on two workers."""
    record = new_record("run1", Claim())
    assert record.spoilt == ""
    both = record.with_fault("test_a").with_fault("test_b").with_fault("test_a")
    assert both.spoilt == "run run1 ended while test_a and test_b and test_a had put a fault into it"
    assert both.without_fault("test_a").faults == ("test_b", "test_a")
    assert both.without_fault("test_c") == both


def test_what_can_not_be_written_down_is_not_broken(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    (lease.state / "record.json").unlink()
    with pytest.raises(LeaseError, match="is missing"):
        lease.breaks(PROLOG)
