"""The right to use a cluster, and its record on disk.

The controller of a run owns the lease; xdist's workers join it. Workers ensure, the controller releases.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pytest_ai_how.errors import AiHowError, LeaseError, StepBlocked, StepFailed
from pytest_ai_how.lease.files import remove_tree
from pytest_ai_how.lease.journal import Entry, Journal
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.lease.owner import OWNER, in_use, owner_text
from pytest_ai_how.lease.processes import Processes, marked
from pytest_ai_how.lease.record import Claim, Record, Step, new_record, read_record, write_record
from pytest_ai_how.lease.state import cluster_state, private_folder, state_home
from pytest_ai_how.lease.undo import Undo, undo_entries
from pytest_ai_how.lease.undoers import UndoersFor, generic_undoers

Keep = Literal["never", "failed", "always"]

USE, USE_GATE, RECORD_LOCK = "use.lock", "use-gate.lock", "record.lock"
RECORD, JOURNAL = "record.json", "journal.jsonl"
# A private daemon through which machines are made: undone as processes are, but after what was made through it.
DAEMON = "daemon"
_STEP = re.compile(r"[a-z][a-z0-9.-]{0,60}")


class Lease:
    """A cluster's folder ``state``, held by run ``run_id``. Make one by :meth:`acquire` or :meth:`join`.

    ``attached`` says whether a kept cluster was found and is used again, ``spoilt`` why one that was found is not to be
    trusted, if so: see :attr:`.record.Record.spoilt`.
    """

    def __init__(self, state: Path, run_id: str, owner: bool, *, undoers_for: UndoersFor = generic_undoers) -> None:
        self.state, self.run_id, self.owner = state, run_id, owner
        self.name = state.name
        self.journal = Journal(state / JOURNAL)
        self.attached, self.spoilt = False, ""
        self._undoers_for = undoers_for
        self._locks = Locks(state)
        self._owner_lock: int | None = None
        self._breaking: dict[str, int] = {}

    @classmethod
    def acquire(
        cls, config_name: str, run_id: str, claim: Claim | None = None, undoers_for: UndoersFor = generic_undoers
    ) -> Lease:
        """Own the cluster ``config_name``.

        What an earlier run left is used again when it is ``claim``'s and still whole, else taken down first.
        Raises :class:`ClusterInUse` naming the live run that owns it, :class:`RecordError`, or :class:`LeaseError`
        listing what could not be taken down.
        """
        lease = cls.seize(config_name, run_id, undoers_for)
        try:
            lease._settle(claim or Claim())
        except BaseException:
            lease.close()
            raise
        return lease

    @classmethod
    def seize(cls, config_name: str, run_id: str, undoers_for: UndoersFor = generic_undoers) -> Lease:
        """Own the cluster as it lies, whole or not, without reading its record: to take it down. See ``acquire``."""
        state = cluster_state(config_name)
        while True:
            private_folder(state)
            lease = cls(state, run_id, owner=True, undoers_for=undoers_for)
            try:
                lease._owner_lock = lease._locks.take(OWNER, wait=False)
            except FileNotFoundError:  # the one before us just took the folder away
                continue
            if lease._owner_lock is None:
                raise in_use(state)
            os.ftruncate(lease._owner_lock, 0)
            os.pwrite(lease._owner_lock, owner_text(run_id), 0)
            return lease

    @classmethod
    def join(cls, config_name: str, run_id: str, undoers_for: UndoersFor = generic_undoers) -> Lease:
        """Share the lease that the controller of ``run_id`` owns. Raises :class:`LeaseError` when it owns none."""
        state = cluster_state(config_name)
        found = read_record(state / RECORD)
        if found is None or found.run != run_id:
            seen = f"run {found.run} has it" if found else "there is no record"
            raise LeaseError(str(state / RECORD), seen, expected=f"the record of run {run_id}")
        return cls(state, run_id, owner=False, undoers_for=undoers_for)

    @property
    def record(self) -> Record:
        """The record as it is on disk now. Raises :class:`LeaseError` when there is none."""
        found = read_record(self.state / RECORD)
        if found is None:
            raise LeaseError(str(self.state / RECORD), "is missing", cure=f"pytest-ai-how down --cluster {self.name}")
        return found

    def ensure(self, step: str, fingerprint: str, action: Callable[[], dict[str, str]]) -> dict[str, str]:
        """Have ``step`` done, by whoever comes first, and return the facts that ``action`` returned.

        It is done anew when ``fingerprint`` changed; what a former try made is undone before. Raises
        :class:`StepFailed` where the action failed and :class:`StepBlocked` wherever it is asked for again in this run.
        """
        if not _STEP.fullmatch(step):
            raise ValueError(f"not a step's name: {step!r}")
        if (facts := self._known(step, fingerprint)) is not None:
            return facts
        with self._locks.hold(f"step.{step}.lock"):
            if (facts := self._known(step, fingerprint)) is not None:
                return facts
            return self._run(step, fingerprint, action)

    def stamp(self, step: str) -> str:
        """A word that is new each time ``step`` was done: part of the fingerprints of the steps that build on it."""
        found = self.record.steps.get(step)
        return found.stamp if found else ""

    def breaks(self, test: str) -> None:
        """Write down, before it does, that ``test`` puts a fault into the cluster.

        Whatever becomes of the run, the cluster is not used again until :meth:`mended` says that the fault is undone.
        """
        descriptor = self._locks.take(_fault_lock(test), shared=True)
        assert descriptor is not None  # take() waits
        self._breaking[test] = descriptor
        self._update(lambda record: record.with_fault(test))

    def mended(self, test: str) -> None:
        """Write down that ``test`` has undone the fault that it put into the cluster."""
        self._update(lambda record: record.without_fault(test))
        self.left(test)

    def left(self, test: str) -> None:
        """Say that ``test`` is over; what it has not undone by now stays."""
        if (descriptor := self._breaking.pop(test, None)) is not None:
            self._locks.drop(descriptor)

    def left_broken(self) -> str:
        """The first test of this run that is over, or was killed, with its fault in the cluster; '' without one."""
        return next((test for test in self.record.faults if self._is_over(test)), "")

    def _is_over(self, test: str) -> bool:
        descriptor = self._locks.take(_fault_lock(test), wait=False)
        if descriptor is None:
            return False
        self._locks.drop(descriptor)
        return test in self.record.faults  # it may have undone it between two looks

    @contextmanager
    def using(self, exclusive: bool, services: Mapping[str, bool] = MappingProxyType({})) -> Iterator[None]:
        """Use the cluster together with others, or alone. Who waits to be alone is not overtaken.

        ``services`` names those that are used, each alone (true) or together with others. All take the locks in the
        same order, so nobody waits in a circle.
        """
        with ExitStack() as held:
            held.enter_context(self._locks.hold_fairly(USE, USE_GATE, shared=not exclusive))
            for name in sorted(services):
                lock, gate = f"use-{name}.lock", f"use-{name}-gate.lock"
                held.enter_context(self._locks.hold_fairly(lock, gate, shared=not services[name]))
            yield

    def release(self, keep: Keep = "never", failed: bool = False, deadline: float = 30.0) -> bool:
        """Give the cluster up at the end of the run, and return whether it was kept.

        What is not kept is undone, verified and its folder removed, within ``deadline`` seconds. Raises
        :class:`LeaseError` listing what remains; the record stays then, for ``pytest-ai-how reap``.
        """
        self._must_own()
        try:
            kept = keep == "always" or (keep == "failed" and failed)
            if kept:
                self._update(lambda record: replace(record, kept=True))
            else:
                self.take_down(deadline)
                self._remove()
            return kept
        finally:
            self.close()

    def take_down(self, deadline: float = 30.0, entries: list[Entry] | None = None) -> None:
        """Undo all that is pending (or ``entries``); the lease stays, without any step done."""
        self._must_own()
        pending = self.journal.pending() if entries is None else entries
        undo_entries(self.journal, pending, self._undoers(), deadline)
        if read_record(self.state / RECORD) is not None:
            self._update(lambda record: replace(record, steps={}))

    def close(self) -> None:
        """Drop the lock and leave everything as it is."""
        if self._owner_lock is not None:
            self._locks.drop(self._owner_lock)
            self._owner_lock = None

    def set_aside(self, path: Path) -> Path:
        """Move a file that can't be read out of the cluster's folder, and return where it is now."""
        self._must_own()
        target = private_folder(state_home() / ".aside") / f"{self.name}-{path.name}-{uuid.uuid4().hex[:8]}"
        return path.rename(target)

    def remove(self) -> None:
        """Remove the folder of a cluster that was taken down, and drop the lock."""
        self._must_own()
        self._remove()
        self.close()

    def _remove(self) -> None:
        # Renamed first: a half-removed folder must not be taken for a cluster's.
        gone = self.state.with_name(f".{self.name}.{uuid.uuid4().hex[:8]}.gone")
        self.state.rename(gone)
        remove_tree(gone)

    def _must_own(self) -> None:
        if self._owner_lock is None:
            raise LeaseError(str(self.state), "is not ours to release: only the controller that acquired it may")

    def _settle(self, claim: Claim) -> None:
        """Use what lies there, or take it down; then write our own record."""
        record = read_record(self.state / RECORD)
        fresh = new_record(self.run_id, claim)
        self.spoilt = record.spoilt if record else ""
        if record and self._is_whole(record, claim):
            self.attached = True
            fresh = replace(fresh, steps=record.steps, booted=record.booted, started=record.started)
        elif pending := self.journal.pending():
            driver = record.claim.driver if record else claim.driver
            undo_entries(self.journal, pending, self._undoers_for(driver, self.state))
        write_record(self.state / RECORD, fresh)

    def _is_whole(self, record: Record, claim: Claim) -> bool:
        """Whether a cluster of an earlier run is what is wanted, was made to an end, and all of its processes run.

        One with a fault in it answers like any other, and would fail the checks of whoever uses it.
        """
        if record.faults:
            return False
        wanted = (claim.driver, claim.fingerprint)
        if not claim.fingerprint or (record.claim.driver, record.claim.fingerprint) != wanted or not record.same_boot:
            return False
        if not any(step.state == "done" for step in record.steps.values()):
            return False
        processes = [entry for entry in self.journal.pending() if entry.kind in (Processes.kind, DAEMON)]
        return all(marked(entry.data["cookie"]) for entry in processes)

    def _known(self, step: str, fingerprint: str) -> dict[str, str] | None:
        """The facts of a step that is done; None when it is to be run. Raises StepBlocked when this run tried it."""
        record = self.record
        if record.run != self.run_id:
            raise LeaseError(f"cluster {self.name!r}", f"run {self.run_id} lost it to run {record.run}")
        found = record.steps.get(step)
        if found is None or found.fingerprint != fingerprint:
            return None
        if found.state == "done":
            return dict(found.facts)
        if found.run == self.run_id:
            raise StepBlocked("blocked", f"step {step!r} failed: {found.cause}")
        return None

    def _run(self, step: str, fingerprint: str, action: Callable[[], dict[str, str]]) -> dict[str, str]:
        started = time.monotonic()

        def outcome(state: Literal["done", "failed"], facts: Mapping[str, str], cause: str = "") -> Step:
            seconds = round(time.monotonic() - started, 3)
            return Step(fingerprint, state, self.run_id, uuid.uuid4().hex, dict(facts), cause, seconds)

        try:
            self._undo_former(step)
            facts = action()
        except AiHowError as error:
            self._note(step, outcome("failed", {}, f"{error.where}: {error.seen}"))
            raise StepFailed(
                error.where, f"step {step!r} failed: {error.seen}", expected=error.expected, cure=error.cure
            ) from error
        except Exception as error:
            self._note(step, outcome("failed", {}, f"{type(error).__name__}: {error}"))
            raise StepFailed("localhost", f"step {step!r} failed: {type(error).__name__}: {error}") from error
        self._note(step, outcome("done", facts))
        return facts

    def _undo_former(self, step: str) -> None:
        """Undo what a former try of the step made: it was killed, it failed, or it was for another fingerprint."""
        former = [entry for entry in self.journal.pending() if entry.step == step]
        undo_entries(self.journal, former, self._undoers())

    def _note(self, step: str, outcome: Step) -> None:
        self._update(lambda record: record.with_step(step, outcome))

    def _update(self, change: Callable[[Record], Record]) -> None:
        with self._locks.hold(RECORD_LOCK):
            write_record(self.state / RECORD, change(self.record))

    def _undoers(self) -> list[Undo]:
        found = read_record(self.state / RECORD)
        return list(self._undoers_for(found.claim.driver if found else "", self.state))


def _fault_lock(test: str) -> str:
    """The lock that a test holds while it has a fault in the cluster."""
    return f"fault-{hashlib.sha256(test.encode()).hexdigest()[:16]}.lock"


@contextmanager
def owned(name: str, run_id: str, undoers_for: UndoersFor = generic_undoers) -> Iterator[Lease]:
    """Own a cluster as it lies for the length of a block."""
    lease = Lease.seize(name, run_id, undoers_for)
    try:
        yield lease
    finally:
        lease.close()
