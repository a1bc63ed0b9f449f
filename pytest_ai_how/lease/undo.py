"""Undoing what a journal names, in reverse order, each part verified."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from pytest_ai_how.deadline import Deadline
from pytest_ai_how.errors import AiHowError, LeaseError
from pytest_ai_how.lease.journal import Entry, Journal

_log = logging.getLogger(__name__)


class Undo(Protocol):
    """Unmakes one kind of thing that a journal names."""

    @property
    def kind(self) -> str:
        """The kind of entry that this is for."""

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Unmake it within ``deadline`` seconds. Idempotent: what is gone already is no error.

        Touches nothing that is not provably ours.
        """

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """What is still there, in words; nothing when it is gone."""


@runtime_checkable
class Begins(Protocol):
    """An :class:`Undo` that can start without waiting, so that many machines stop side by side."""

    def begin(self, data: Mapping[str, str]) -> None:
        """Start the undo and return at once."""


def undo_all(journal: Journal, undoers: Iterable[Undo], deadline: float = 30.0) -> None:
    """Undo everything that is pending in ``journal``, last made first. See :func:`undo_entries` for errors."""
    undo_entries(journal, journal.pending(), undoers, deadline)


def undo_entries(journal: Journal, entries: Sequence[Entry], undoers: Iterable[Undo], deadline: float = 30.0) -> None:
    """Undo ``entries`` of ``journal`` within ``deadline`` seconds in all, and write down what is gone.

    What can't be undone does not stop the rest. Raises one :class:`LeaseError` that lists all that remains.
    """
    known = {undoer.kind: undoer for undoer in undoers}
    end = Deadline(deadline)
    last_first = list(reversed(entries))
    for entry in last_first:
        _begin(known.get(entry.kind), entry)
    left = [said for entry in last_first for said in _undo(journal, known.get(entry.kind), entry, end)]
    if left:
        raise LeaseError(
            "localhost",
            f"{len(left)} parts of cluster {journal.path.parent.name!r} remain:\n    " + "\n    ".join(left),
            expected="nothing to remain of it",
            cure="look at what holds them, then: pytest-ai-how reap",
        )


def _begin(undoer: Undo | None, entry: Entry) -> None:
    if isinstance(undoer, Begins):
        try:
            undoer.begin(entry.data)
        except (AiHowError, OSError) as error:
            _log.warning("%s: begin to undo: %s", entry.kind, error)  # undo() meets it again, and says so


def _undo(journal: Journal, undoer: Undo | None, entry: Entry, end: Deadline) -> list[str]:
    """Undo one entry and return what remains of it, in words."""
    if undoer is None:
        return [f"{describe(entry)}: this version does not know how to undo a {entry.kind!r}"]
    said = ""
    try:
        undoer.undo(entry.data, end.left)
    except (AiHowError, OSError) as error:
        said = str(error)
    try:
        remains = list(undoer.remains(entry.data))
    except (AiHowError, OSError) as error:
        remains = [f"{describe(entry)}: can't be told: {error}"]
    if not remains:
        journal.undone(entry)
        return []
    return [f"{what}; {said}" if said and said not in what else what for what in remains]


def describe(entry: Entry) -> str:
    """An entry in words: ``mount target=/x``."""
    return " ".join([entry.kind, *(f"{key}={value}" for key, value in entry.data.items())])
