"""From test items and catalogue rows to a judged report: the rules of the verdict, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pytest_ai_how.catalogue import Catalogue
from pytest_ai_how.report.items import Attachment, Step
from pytest_ai_how.report.model import (
    WORST_FIRST,
    CheckResult,
    Completeness,
    Row,
    RowState,
    Run,
    RunReport,
    RunVerdict,
    Severity,
    TaskLine,
    Verdict,
)
from pytest_ai_how.report.redact import Redactor


def assemble(
    run: Run,
    results: Sequence[CheckResult],
    rows: Sequence[Row],
    *,
    titles: Mapping[str, str] | None = None,
    deselected: Mapping[str, str] | None = None,
    redactor: Redactor | None = None,
) -> RunReport:
    """Judge a run.

    ``rows`` are all rows of the catalogue, ``titles`` task titles by task, ``deselected`` the identifiers of rows
    whose check exists but was not selected, or not all of it (with the reason). A row with neither result nor mention
    there has no check written: it is missing. Raises :class:`ValueError` when a result names a row that the catalogue
    lacks.
    """
    redactor = redactor or Redactor()
    run = _redacted_run(run, redactor)
    clean = tuple(_redacted(result, redactor) for result in results)
    known = {row.id for row in rows}
    for result in clean:
        for check in result.ids:
            if check not in known:
                raise ValueError(f"{result.nodeid}: check {check!r} is not in the catalogue (configs/checks.yaml)")
    states = row_states(clean, rows, deselected or {})
    verdict, reasons = judge(run, _counting(states, clean))
    return RunReport(
        run=run,
        verdict=verdict,
        reasons=reasons,
        results=clean,
        rows=states,
        tasks=task_lines(states, clean, titles or {}),
        completeness=completeness(states),
    )


def amend(report: RunReport, run: Run, redactor: Redactor | None = None) -> RunReport:
    """The report of a run whose circumstances changed after it was assembled: its troubles, or its end."""
    run = _redacted_run(run, redactor or Redactor())
    verdict, reasons = judge(run, _counting(report.rows, report.results))
    return report.model_copy(update={"run": run, "verdict": verdict, "reasons": reasons})


def rows_of(catalogue: Catalogue) -> tuple[Row, ...]:
    """All rows of the catalogue, in its order."""
    return tuple(
        Row(
            id=check.id,
            title=check.title,
            criterion=check.pass_criterion,
            severity=Severity(check.severity),
            tasks=check.task,
            phase=check.phase,
        )
        for check in catalogue.values()
    )


def _redacted_run(run: Run, redactor: Redactor) -> Run:
    return run.model_copy(
        update={
            "command": redactor.text(run.command),
            "host": {name: redactor.text(value) for name, value in run.host.items()},
            "troubles": tuple(redactor.text(trouble) for trouble in run.troubles),
        }
    )


def _redacted(result: CheckResult, redactor: Redactor) -> CheckResult:
    # Evidence was redacted where it was made, but a worker may not have known every secret.
    attachments = tuple(
        Attachment.of(
            redactor.text(item.name), redactor.data(item.data), kind=item.kind, truncated_from=item.truncated_from
        )
        for item in result.attachments
    )
    steps = tuple(_redacted_step(step, redactor) for step in result.steps)
    texts = {field: redactor.text(getattr(result, field)) for field in ("nodeid", "reason", "trace")}
    return result.model_copy(update={**texts, "attachments": attachments, "steps": steps})


def _redacted_step(step: Step, redactor: Redactor) -> Step:
    inner = tuple(_redacted_step(one, redactor) for one in step.steps)
    return step.model_copy(update={"text": redactor.text(step.text), "steps": inner})


def _counting(states: Iterable[RowState], results: Iterable[CheckResult]) -> tuple[RowState, ...]:
    """All that decides about the run."""
    return (*states, *(_unlisted(result) for result in results if not result.ids))


def _unlisted(result: CheckResult) -> RowState:
    """A test without a check mark counts like a row of default severity: a failure must not go unseen."""
    row = Row(id=result.nodeid, title=result.title)
    return RowState(
        row=row, verdict=result.verdict, reason=result.reason, nodeids=(result.nodeid,), seconds=result.seconds
    )


def row_states(
    results: Iterable[CheckResult], rows: Iterable[Row], deselected: Mapping[str, str]
) -> tuple[RowState, ...]:
    """The state of every row, in the catalogue's order."""
    by_check: dict[str, list[CheckResult]] = {}
    for result in results:
        for check in result.ids:
            by_check.setdefault(check, []).append(result)
    return tuple(_row_state(row, by_check.get(row.id, []), deselected) for row in rows)


def _row_state(row: Row, items: list[CheckResult], deselected: Mapping[str, str]) -> RowState:
    if not items:
        if row.id in deselected:
            return RowState(row=row, verdict=Verdict.NOT_SELECTED, reason=deselected[row.id])
        return RowState(row=row, verdict=Verdict.MISSING, reason="no check is written for this row")
    worst = min((item.verdict for item in items), key=WORST_FIRST.index)
    reasons = list(dict.fromkeys(item.reason for item in items if item.verdict is worst and item.reason))
    if worst is Verdict.PASSED:
        reasons = []  # what stands beside a pass says which part of the row was not tested
    skipped = [item for item in items if item.verdict is Verdict.NOT_APPLICABLE]
    if skipped and worst is not Verdict.NOT_APPLICABLE:
        reasons.append(f"{len(skipped)} of {len(items)} items not applicable: {skipped[0].reason}")
    if row.id in deselected:
        reasons.append(deselected[row.id])
    return RowState(
        row=row,
        verdict=worst,
        reason="; ".join(reasons),
        nodeids=tuple(item.nodeid for item in items),
        seconds=sum(item.seconds for item in items),
    )


def judge(run: Run, states: Iterable[RowState]) -> tuple[RunVerdict, tuple[str, ...]]:
    """The run's verdict and its reasons.

    A failed check of blocking or default severity makes the cluster unfit; one that is broken, blocked or without
    evidence leaves it undecided, as do a run's own troubles and a run in which no check was executed. Informational
    checks decide nothing.
    """
    counting = [state for state in states if state.counts]
    failed = [state for state in counting if state.verdict is Verdict.FAILED]
    unanswered = [state for state in counting if state.verdict.open]
    doubts = [*run.troubles, *(_because(state) for state in unanswered)]
    if failed:
        return RunVerdict.UNFIT, (*map(_because, failed), *doubts)
    if not any(state.verdict.executed for state in counting):
        doubts.insert(0, "no check was executed")
    if doubts:
        return RunVerdict.UNDECIDED, tuple(doubts)
    return RunVerdict.FIT, ()


def _because(state: RowState) -> str:
    return f"{state.row.id} {state.verdict.words}: {state.reason or 'no reason given'}"


def task_lines(
    states: Iterable[RowState], results: Sequence[CheckResult], titles: Mapping[str, str]
) -> tuple[TaskLine, ...]:
    """One line for each task with a row that was selected, in order of the task's name."""
    seconds = {result.nodeid: result.seconds for result in results}
    counts: dict[str, Counter[Verdict]] = {}
    nodeids: dict[str, set[str]] = {}
    for state in states:
        for task in state.row.tasks:
            counts.setdefault(task, Counter())[state.verdict] += 1
            nodeids.setdefault(task, set()).update(state.nodeids)
    return tuple(
        TaskLine(
            task=task,
            title=titles.get(task, ""),
            counts={verdict: counts[task][verdict] for verdict in WORST_FIRST if counts[task][verdict]},
            seconds=sum(seconds[nodeid] for nodeid in nodeids[task]),
        )
        for task in sorted(counts)
        if nodeids[task]
    )


def completeness(states: Iterable[RowState]) -> Completeness:
    """How much of the selected rows has an answer. With no row selected everything is 0 %, never 100 %."""
    everything = list(states)
    rows = [s for s in everything if s.verdict not in (Verdict.NOT_SELECTED, Verdict.MISSING)]
    answered = [s for s in rows if s.verdict.executed]
    done = [s for s in rows if s.verdict.executed or s.verdict is Verdict.NOT_APPLICABLE]
    passed = [s for s in answered if s.verdict is Verdict.PASSED]
    return Completeness(
        rows=len(rows),
        executed=_percent(len(done), len(rows)),
        passed=_percent(len(passed), len(answered)),
        blocking=sum(1 for s in answered if s.verdict is Verdict.FAILED and s.row.severity is Severity.BLOCKING),
        missing=sum(1 for s in everything if s.verdict is Verdict.MISSING),
        unexecuted=tuple(s.row.id for s in rows if s.verdict.open),
    )


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
