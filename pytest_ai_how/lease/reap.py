"""Taking down what runs left behind that did not end as they should."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_ai_how.errors import RecordError
from pytest_ai_how.lease.files import remove_tree
from pytest_ai_how.lease.journal import Entry, Journal
from pytest_ai_how.lease.lease import JOURNAL, RECORD, Lease, owned
from pytest_ai_how.lease.owner import Owner, owner_of
from pytest_ai_how.lease.record import Record, read_record
from pytest_ai_how.lease.state import FAILED, checked_name, cluster_state, is_name, state_home
from pytest_ai_how.lease.undo import undo_entries
from pytest_ai_how.lease.undoers import UndoersFor, found_by_mark, generic_undoers

Condition = Literal["in use", "kept", "orphan", "unreadable"]


@dataclass(frozen=True, slots=True)
class Status:
    """One cluster as its folder tells: ``pending`` is what is to be undone, ``problem`` what could not be read."""

    name: str
    condition: Condition
    record: Record | None = None
    owner: Owner | None = None
    pending: tuple[Entry, ...] = ()
    problem: RecordError | None = None


def clusters() -> list[str]:
    """The names of all clusters that have a folder."""
    home = state_home()
    return sorted(path.name for path in home.iterdir() if is_name(path.name) and path.is_dir()) if home.is_dir() else []


def status(name: str) -> Status:
    """Look at a cluster without touching it."""
    state = cluster_state(name)
    owner = owner_of(state)
    try:
        record = read_record(state / RECORD)
        pending = tuple(Journal(state / JOURNAL).pending())
    except RecordError as error:
        return Status(name, "in use" if owner else "unreadable", owner=owner, problem=error)
    condition: Condition = "in use" if owner else "kept" if record and record.kept else "orphan"
    return Status(name, condition, record, owner, pending)


def take_down(name: str, run_id: str, undoers_for: UndoersFor = generic_undoers) -> bool:
    """Take a cluster down, kept or orphaned, and remove its folder; False when there is none.

    Raises :class:`~pytest_ai_how.errors.ClusterInUse`, :class:`RecordError`, or LeaseError listing what remains.
    """
    if not cluster_state(name).is_dir():
        return False
    with owned(name, run_id, undoers_for) as lease:
        lease.take_down()
        lease.remove()
    return True


def force_down(name: str, run_id: str, undoers_for: UndoersFor = generic_undoers) -> list[Path]:
    """Take a cluster down whose files can't be trusted, and return where those were moved to.

    Undone is what the readable lines of the journal name, and what carries the cluster's mark or is mounted in its
    folder. The unreadable files are set aside only when nothing of that remains.
    """
    with owned(checked_name(name), run_id, undoers_for) as lease:
        unreadable = [path for path, read in _readers(lease).items() if not _is_readable(read)]
        record = None if lease.state / RECORD in unreadable else read_record(lease.state / RECORD)
        undoers = undoers_for(record.claim.driver if record else "", lease.state)
        undo_entries(lease.journal, lease.journal.salvage(), undoers)
        undo_entries(lease.journal, found_by_mark(name, lease.state), undoers)
        aside = [lease.set_aside(path) for path in unreadable]
        lease.remove()
    return aside


def halves() -> list[Path]:
    """The folders that a killed run had begun to remove; everything in them was undone and verified before that."""
    return sorted(state_home().glob(".*.gone"))


def remove_halves() -> list[Path]:
    """Remove them, and return what was removed."""
    found = halves()
    for path in found:
        remove_tree(path)
    return found


def failures() -> list[Path]:
    """What is kept of bring-ups that failed."""
    return sorted((state_home() / FAILED).glob("*"))


def forget_failures(paths: Iterable[Path]) -> None:
    """Remove it; what is not there is no error."""
    for path in paths:
        remove_tree(path)
    with suppress(OSError):  # others failed too, or none did
        (state_home() / FAILED).rmdir()


def _readers(lease: Lease) -> dict[Path, Callable[[], object]]:
    record = lease.state / RECORD
    return {record: lambda: read_record(record), lease.journal.path: lease.journal.pending}


def _is_readable(read: Callable[[], object]) -> bool:
    try:
        read()
    except RecordError:
        return False
    return True
