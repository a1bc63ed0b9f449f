"""What became of the tests of a run, told between its processes: for checks that judge the run itself."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.report.model import CheckResult
from pytest_ai_how.skin.results import Collection

#: Seconds that a closing test waits for tests that still run on other workers.
OTHERS_WITHIN = 900.0
_NAME, _LOCK = "outcomes.jsonl", "outcomes.lock"


class Outcomes:
    """The outcomes of a run, in its folder ``parts``: a file that only grows, one line a test, without evidence."""

    def __init__(self, parts: Path) -> None:
        self._parts, self._file = parts, parts / _NAME
        self._locks = Locks(parts)

    def note(self, nodeid: str, result: CheckResult) -> None:
        """Write down what the test that xdist knows as ``nodeid`` came to."""
        short = result.model_copy(update={"attachments": (), "steps": (), "measurements": (), "trace": ""})
        line = json.dumps({"nodeid": nodeid, "result": short.model_dump(mode="json")})
        with self._locks.hold(_LOCK), self._file.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def known(self) -> dict[str, CheckResult]:
        """All outcomes so far, by node id."""
        if not self._file.exists():
            return {}
        with self._locks.hold(_LOCK, shared=True):
            lines = self._file.read_text(encoding="utf-8").splitlines()
        return {entry["nodeid"]: CheckResult.model_validate(entry["result"]) for entry in map(json.loads, lines)}

    def before(self, nodeid: str, within: float = OTHERS_WITHIN) -> tuple[CheckResult, ...]:
        """The outcomes of all tests that come before ``nodeid`` in this run, when the last of them has ended.

        Raises :class:`~pytest_ai_how.errors.DeadlineExceeded` naming a test that has not.
        """
        order = list(Collection.read(self._parts).selected)
        wanted = order[: order.index(nodeid)]
        found: dict[str, CheckResult] = {}

        def all_ended() -> bool:
            found.update(self.known())
            return found.keys() >= set(wanted)

        wait_for(
            all_ended,
            within=within,
            what="through with all other tests",
            where="this run",
            last_seen=lambda: f"still open: {', '.join(one for one in wanted if one not in found)}",
            cure="look at what that test waits for",
        )
        return tuple(found[one] for one in wanted)
