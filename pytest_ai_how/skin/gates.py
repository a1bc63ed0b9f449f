"""What became of the checks that others wait for, told between the processes of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.report.model import Verdict

# A gate that was not passed leaves nothing to build on; one without evidence may well hold.
_SHUT = (Verdict.FAILED, Verdict.BROKEN, Verdict.BLOCKED)
# Seconds. A gate may bring the whole cluster up, images and all.
LONGEST_GATE = 3600.0


class Gates:
    """The gates among the selected checks, and an append-only file of their outcomes in the run's folder.

    ``awaited`` says of how many tests a gate consists that others wait for. Whoever waits must run after them in the
    order in which tests are handed out: then no two workers wait for each other.
    """

    def __init__(self, folder: Path, ids: Iterable[str], awaited: Mapping[str, int]) -> None:
        self.ids = frozenset(ids)
        self._awaited = dict(awaited)
        self._locks = Locks(folder)
        self._file = folder / "gates.jsonl"

    def wait_for(self, gates: Iterable[str]) -> None:
        """Wait until all tests of those of ``gates`` that are awaited have ended, on whichever worker.

        Raises :class:`~pytest_ai_how.errors.DeadlineExceeded` after an hour.
        """
        wanted = sorted(set(gates).intersection(self._awaited))
        if not wanted:
            return

        def open_ones() -> list[str]:
            ended = Counter(entry["gate"] for entry in self._entries())
            return [gate for gate in wanted if ended[gate] < self._awaited[gate]]

        wait_for(
            lambda: not open_ones(),
            within=LONGEST_GATE,
            what="all gates run",
            where="gates",
            every=0.02,
            at_most=0.2,
            last_seen=lambda: f"{', '.join(open_ones())} still open",
        )

    def note(self, checks: Iterable[str], verdict: Verdict, reason: str) -> None:
        """Write down that a test of ``checks`` ended, and how."""
        gates = sorted(self.ids.intersection(checks))
        if not gates:
            return
        first = reason.strip().splitlines()[0] if reason.strip() else ""
        lines = "".join(json.dumps({"gate": gate, "verdict": verdict, "reason": first}) + "\n" for gate in gates)
        with self._locks.hold("gates.lock"), self._file.open("a", encoding="utf-8") as file:
            file.write(lines)

    def why_shut(self, gates: Iterable[str]) -> str:
        """The first of ``gates`` that did not pass in this run, in words; empty when none is known not to."""
        wanted = self.ids.intersection(gates)
        for entry in self._entries() if wanted else ():
            if entry["gate"] in wanted and entry["verdict"] in _SHUT:
                return f"gate {entry['gate']} {entry['verdict']}: {entry['reason']}"
        return ""

    def _entries(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        with self._locks.hold("gates.lock", shared=True):
            return [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
