"""What became of the tests of a run, told between its processes: for checks that judge the run itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.report.model import CheckResult
from pytest_ai_how.skin.results import Collection
from pytest_ai_how.skin.trial import Blocked

#: Seconds that a closing test waits for tests that still run on other workers.
OTHERS_WITHIN = 900.0
_NAME, _LOCK, _WORKING = "outcomes.jsonl", "outcomes.lock", "working.lock"


class Outcomes:
    """The outcomes of a run, in its folder ``parts``: a file that only grows, one line a test, without evidence."""

    def __init__(self, parts: Path) -> None:
        self._parts, self._file = parts, parts / _NAME
        self._locks = Locks(parts)
        self._working: int | None = None

    def begin(self) -> None:
        """Say that this process runs tests, until :meth:`end` or its own end, however it comes."""
        self._working = self._locks.take(_WORKING, shared=True)

    def end(self) -> None:
        """Say that this process runs no more tests."""
        if self._working is not None:
            self._locks.drop(self._working)
            self._working = None

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

        Raises :class:`Blocked` when nobody is left who could run them, as after ``-x``, and
        :class:`~pytest_ai_how.errors.DeadlineExceeded`; both name the tests that have not.
        """
        order = list(Collection.read(self._parts).selected)
        wanted = order[: order.index(nodeid)]
        found: dict[str, CheckResult] = {}

        def still_open() -> str:
            found.update(self.known())
            return ", ".join(one for one in wanted if one not in found)

        def all_ended() -> bool:
            if still_open() and self._alone() and (left := still_open()):
                raise Blocked(f"blocked: the run ended before {left}")
            return not still_open()

        wait_for(
            all_ended,
            within=within,
            what="through with all other tests",
            where="this run",
            last_seen=lambda: f"still open: {still_open()}",
            cure="look at what that test waits for",
        )
        return tuple(found[one] for one in wanted)

    def wait_for(self, nodeids: Sequence[str], within: float = OTHERS_WITHIN) -> None:
        """Wait until these tests have ended, or nobody is left who could run them; ``within`` seconds at most."""

        def ended() -> bool:
            return not set(nodeids) - self._noted() or self._alone()

        with suppress(DeadlineExceeded):
            wait_for(ended, within=within, what="through with other tests", where="this run", at_most=0.2)

    def _noted(self) -> set[str]:
        """The node ids of all tests that have ended."""
        if not self._file.exists():
            return set()
        with self._locks.hold(_LOCK, shared=True):
            return {json.loads(line)["nodeid"] for line in self._file.read_text(encoding="utf-8").splitlines()}

    def _alone(self) -> bool:
        """Whether no other process of the run runs tests any more."""
        self.end()
        found = self._locks.take(_WORKING, wait=False)
        if found is not None:
            self._locks.drop(found)
        self.begin()
        return found is not None
