"""The run as data. Everything that is written or shown is made from a :class:`RunReport`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from pytest_ai_how.report.items import Attachment, Item, Measurement, Step

# Raised by one with each change that a reader of report.json would notice.
SCHEMA_VERSION: Final = 1


class Verdict(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "broken"
    BLOCKED = "blocked"
    NOT_APPLICABLE = "not_applicable"
    NO_EVIDENCE = "no_evidence"
    MISSING = "missing"
    NOT_SELECTED = "not_selected"

    @property
    def words(self) -> str:
        """The verdict as a person writes it."""
        return self.value.replace("_", " ")

    @property
    def executed(self) -> bool:
        """Whether the claim was put to the test and answered."""
        return self in (Verdict.PASSED, Verdict.FAILED)

    @property
    def open(self) -> bool:
        """Whether the claim was to be tested and got no answer."""
        return self in (Verdict.BROKEN, Verdict.BLOCKED, Verdict.NO_EVIDENCE)


# Worst first. "not applicable" comes after "passed": a claim that holds wherever it applies, holds.
WORST_FIRST = (
    Verdict.FAILED,
    Verdict.BROKEN,
    Verdict.NO_EVIDENCE,
    Verdict.BLOCKED,
    Verdict.PASSED,
    Verdict.NOT_APPLICABLE,
    Verdict.NOT_SELECTED,
    Verdict.MISSING,
)


class Severity(StrEnum):
    """What a failure of a check means for the run, as the catalogue's column says."""

    BLOCKING = "blocking"
    DEFAULT = "default"
    INFORMATIONAL = "informational"


class RunVerdict(StrEnum):
    """What the run says about the cluster."""

    FIT = "fit"
    UNFIT = "unfit"
    UNDECIDED = "undecided"


class CheckResult(Item):
    """What one test item found. ``reason`` has the machine first; ``started`` is Unix time.

    ``ids`` are the catalogue rows that the item tests (none for a test of another repository without a check mark).
    ``location`` is the test's file:line, ``trace`` the traceback as text.
    """

    nodeid: str
    verdict: Verdict
    ids: tuple[str, ...] = ()
    title: str = ""
    reason: str = ""
    node: str = ""
    location: str = ""
    trace: str = ""
    started: float = 0.0
    seconds: float = 0.0
    worker: str = ""
    attachments: tuple[Attachment, ...] = ()
    steps: tuple[Step, ...] = ()
    measurements: tuple[Measurement, ...] = ()

    @property
    def samples(self) -> int:
        """Attachments with content, and figures: none means that nothing was measured."""
        return sum(1 for item in self.attachments if item.size) + len(self.measurements)


class Row(Item):
    """One row of the catalogue, as far as a report needs it."""

    id: str
    title: str
    criterion: str = ""
    severity: Severity = Severity.DEFAULT
    tasks: tuple[str, ...] = ()
    phase: str = ""


class RowState(Item):
    """One row of the catalogue and what became of it: the worst verdict of the items that test it.

    A ``reason`` beside ``passed`` says which part of the row was not tested.
    """

    row: Row
    verdict: Verdict
    reason: str = ""
    nodeids: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the row can decide the run: informational ones never do."""
        return self.row.severity is not Severity.INFORMATIONAL


class TaskLine(Item):
    """How a task's rows came out; ``counts`` by verdict, ``seconds`` of its test items."""

    task: str
    title: str = ""
    counts: dict[Verdict, int] = Field(default_factory=dict)
    seconds: float = 0.0


class Completeness(Item):
    """How much of what was to be tested was tested, in per cent. Rows not selected are no part of it.

    ``executed`` counts rows with an answer or a justified "not applicable"; ``passed`` is of the rows with an answer;
    ``blocking`` the number of blocking rows that failed; ``missing`` the number of rows for which no check is written.
    """

    rows: int
    executed: float
    passed: float
    blocking: int
    missing: int
    unexecuted: tuple[str, ...] = ()


class Absent(Item):
    """A capability that the profile declares absent or that the host does not have, and why."""

    name: str
    reason: str


class Run(Item):
    """The circumstances of a run. ``started`` and ``ended`` are Unix time; ``host`` facts are free text by name.

    ``troubles`` are reasons for which the run cannot judge whatever its checks say: an interruption, a collection
    error, a cluster that was not taken down cleanly.
    """

    id: str
    cluster: str = ""
    driver: str = ""
    started: float = 0.0
    ended: float = 0.0
    version: str = ""
    command: str = ""
    host: dict[str, str] = Field(default_factory=dict)
    absent: tuple[Absent, ...] = ()
    troubles: tuple[str, ...] = ()


class RunReport(Item):
    """A run, its results, and what follows from them (see :func:`pytest_ai_how.report.assemble.assemble`)."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run: Run
    verdict: RunVerdict
    reasons: tuple[str, ...]
    results: tuple[CheckResult, ...]
    rows: tuple[RowState, ...]
    tasks: tuple[TaskLine, ...]
    completeness: Completeness

    def row(self, check: str) -> RowState:
        """The state of one catalogue row; raises :class:`KeyError` naming it when the catalogue has none."""
        for state in self.rows:
            if state.row.id == check:
                return state
        raise KeyError(f"{check}: no such row in the report of run {self.run.id}")
