"""What became of the checks that others wait for, told between the processes of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.report.model import Verdict

# A gate that was not passed leaves nothing to build on; one without evidence may well hold.
_SHUT = (Verdict.FAILED, Verdict.BROKEN, Verdict.BLOCKED)


class Gates:
    """The gates of a run: an append-only file of outcomes and, while a gate runs, a lock that the kernel drops."""

    def __init__(self, folder: Path, ids: Iterable[str]) -> None:
        self.ids = frozenset(ids)
        self._locks = Locks(folder)
        self._file = folder / "gates.jsonl"

    @contextmanager
    def running(self, checks: Iterable[str]) -> Iterator[None]:
        """Let those who wait for one of ``checks`` know that it runs now. A gate may be several tests at once."""
        with ExitStack() as stack:
            for check in sorted(self.ids.intersection(checks)):
                stack.enter_context(self._locks.hold(_lock(check), shared=True))
            yield

    def wait_for(self, gates: Iterable[str]) -> None:
        """Wait until none of ``gates`` is running anywhere.

        One that has not begun is not waited for: with its group it may be queued behind the caller.
        """
        for gate in sorted(self.ids.intersection(gates)):
            with self._locks.hold(_lock(gate)):
                pass

    def note(self, checks: Iterable[str], verdict: Verdict, reason: str) -> None:
        """Write down the outcome of a test of ``checks`` that bars what waits for them."""
        shut = sorted(self.ids.intersection(checks)) if verdict in _SHUT else []
        if not shut:
            return
        first = reason.strip().splitlines()[0] if reason.strip() else ""
        lines = "".join(json.dumps({"gate": gate, "verdict": verdict, "reason": first}) + "\n" for gate in shut)
        with self._locks.hold("gates.lock"), self._file.open("a", encoding="utf-8") as file:
            file.write(lines)

    def why_shut(self, gates: Iterable[str]) -> str:
        """The first of ``gates`` that did not pass in this run, in words; empty when none is known not to."""
        wanted = self.ids.intersection(gates)
        if not wanted or not self._file.exists():
            return ""
        with self._locks.hold("gates.lock", shared=True):
            lines = self._file.read_text(encoding="utf-8").splitlines()
        for entry in map(json.loads, lines):
            if entry["gate"] in wanted:
                return f"gate {entry['gate']} {entry['verdict']}: {entry['reason']}"
        return ""


def _lock(check: str) -> str:
    return f"gate-{check}.lock"
