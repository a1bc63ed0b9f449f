"""Allure results in ``allure/``: one a test item, with task, severity, steps, attachments and figures.

Written from the report whether or not the user asks allure-pytest for its own results (``--alluredir``), in the
format of allure-python-commons (tried with 2.16). Allure has four statuses for our six verdicts: what is blocked or
without evidence is ``broken`` there, never ``skipped``, and categories tell them apart by the message's last line.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from allure_commons import model2
from allure_commons.logger import AllureFileLogger
from allure_commons.types import LabelType
from allure_commons.types import Severity as AllureSeverity

from pytest_ai_how.report.items import Attachment, Measurement, Step
from pytest_ai_how.report.junit import suite_of
from pytest_ai_how.report.model import CheckResult, Row, RunReport, Severity, Verdict
from pytest_ai_how.report.words import figure, figure_line
from pytest_ai_how.report.writer_json import write_atomically

FOLDER = "allure"
_STATUS = {
    Verdict.PASSED: model2.Status.PASSED,
    Verdict.FAILED: model2.Status.FAILED,
    Verdict.BROKEN: model2.Status.BROKEN,
    Verdict.BLOCKED: model2.Status.BROKEN,
    Verdict.NO_EVIDENCE: model2.Status.BROKEN,
    Verdict.NOT_APPLICABLE: model2.Status.SKIPPED,
    Verdict.NOT_SELECTED: model2.Status.SKIPPED,
    Verdict.MISSING: model2.Status.UNKNOWN,
}
_SEVERITY = {
    Severity.BLOCKING: AllureSeverity.BLOCKER,
    Severity.DEFAULT: AllureSeverity.CRITICAL,
    Severity.INFORMATIONAL: AllureSeverity.MINOR,
}
_CATEGORIES = (
    ("Product defect", Verdict.FAILED),
    ("Harness", Verdict.BROKEN),
    ("Blocked by a gate", Verdict.BLOCKED),
    ("No evidence", Verdict.NO_EVIDENCE),
    ("Not applicable", Verdict.NOT_APPLICABLE),
)


def write_allure(report: RunReport, folder: Path) -> Path:
    """Write the results into ``allure/`` of the run's folder, in place of older ones, and return that folder."""
    target = folder / FOLDER
    if target.exists():
        shutil.rmtree(target)
    logger = AllureFileLogger(target)
    rows = {state.row.id: state.row for state in report.rows}
    titles = {line.task: line.title for line in report.tasks}
    for result in report.results:
        sources = [_attach(logger, item) for item in result.attachments]
        logger.report_result(_result(report, result, rows, titles, sources))
    write_atomically(target / "environment.properties", properties(_environment(report)))
    write_atomically(target / "categories.json", json.dumps(_categories(), indent=1) + "\n")
    return target


def _attach(logger: AllureFileLogger, item: Attachment) -> model2.Attachment:
    extension = ".txt" if item.kind == "text/plain" else mimetypes.guess_extension(item.kind) or ".bin"
    source = model2.ATTACHMENT_PATTERN.format(prefix=uuid.uuid4(), ext=extension[1:])
    logger.report_attached_data(item.data, source)
    name = f"{item.name} ({item.size_note})" if item.size_note else item.name
    return model2.Attachment(name=name, source=source, type=item.kind)


def _result(
    report: RunReport,
    result: CheckResult,
    rows: Mapping[str, Row],
    titles: Mapping[str, str],
    sources: Sequence[model2.Attachment],
) -> model2.TestResult:
    identity = hashlib.md5(f"{report.run.cluster}:{result.nodeid}".encode(), usedforsecurity=False).hexdigest()
    in_steps = {index for step in result.steps for index in _indexes(step)}
    title = result.title or next((rows[check].title for check in result.ids if check in rows), result.nodeid)
    return model2.TestResult(
        uuid=str(uuid.uuid4()),
        historyId=identity,
        testCaseId=hashlib.md5(result.nodeid.encode(), usedforsecurity=False).hexdigest(),
        fullName=result.nodeid,
        name=" ".join((*result.ids, title)),
        description="\n".join(f"{c}: {rows[c].criterion}" for c in result.ids if c in rows and rows[c].criterion)
        or None,
        status=_STATUS[result.verdict],
        statusDetails=_details(result),
        stage="finished",
        labels=[model2.Label(name=name, value=value) for name, value in _labels(report, result, rows, titles)],
        parameters=[_parameter(item) for item in result.measurements],
        steps=[_step(step, sources) for step in result.steps],
        attachments=[source for index, source in enumerate(sources) if index not in in_steps],
        start=_milliseconds(result.started),
        stop=_milliseconds(result.started + result.seconds),
    )


def _details(result: CheckResult) -> model2.StatusDetails | None:
    if result.verdict is Verdict.PASSED:
        return None
    reason = result.reason or "no reason given"
    if result.node and not reason.startswith(result.node):
        reason = f"{result.node}: {reason}"
    return model2.StatusDetails(message=f"{reason}\nverdict: {result.verdict.words}", trace=result.trace or None)


def _labels(
    report: RunReport, result: CheckResult, rows: Mapping[str, Row], titles: Mapping[str, str]
) -> list[tuple[str, str]]:
    known = [rows[check] for check in result.ids if check in rows]
    suite = suite_of(result, rows)
    severity = min((row.severity for row in known), key=list(Severity).index, default=Severity.DEFAULT)
    labels = [
        (LabelType.SUITE, f"{suite} {titles.get(suite, '')}".strip()),
        (LabelType.SEVERITY, _SEVERITY[severity].value),
        (LabelType.HOST, result.node or report.run.cluster or "localhost"),
        (LabelType.FRAMEWORK, "pytest-ai-how"),
        (LabelType.LANGUAGE, "python"),
    ]
    labels += [(LabelType.EPIC, phase) for phase in dict.fromkeys(row.phase for row in known if row.phase)]
    labels += [(LabelType.TAG, check) for check in result.ids]
    labels += [(LabelType.FEATURE, task) for task in dict.fromkeys(task for row in known for task in row.tasks)]
    if result.worker:
        labels.append((LabelType.THREAD, result.worker))
    return labels


def _parameter(item: Measurement) -> model2.Parameter:
    # Excluded: a figure differs from run to run, and must not make another test of it in Allure's history.
    words = figure_line(item).removeprefix(figure(item)).removeprefix("; ")
    name = f"{item.node}: {item.metric}" if item.node else item.metric
    value = f"{item.value:g} {item.unit}" + (f" ({words})" if words else "")
    return model2.Parameter(name=name, value=value, excluded=True)


def _step(step: Step, sources: Sequence[model2.Attachment]) -> model2.TestStepResult:
    return model2.TestStepResult(
        name=step.text,
        status=model2.Status.PASSED if step.ok else model2.Status.FAILED,
        stage="finished",
        steps=[_step(inner, sources) for inner in step.steps],
        attachments=[sources[index] for index in step.attachments],
        start=_milliseconds(step.started),
        stop=_milliseconds(step.started + step.seconds),
    )


def _indexes(step: Step) -> Iterable[int]:
    yield from step.attachments
    for inner in step.steps:
        yield from _indexes(inner)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _environment(report: RunReport) -> dict[str, str]:
    run = report.run
    facts = {
        "run": run.id,
        "cluster": run.cluster,
        "driver": run.driver,
        "pytest-ai-how": run.version,
        "verdict": report.verdict.value,
        "command": run.command,
        "absent": ", ".join(absent.name for absent in run.absent),
    }
    return {**{key: value for key, value in facts.items() if value}, **run.host}


def properties(facts: Mapping[str, str]) -> str:
    """A Java properties file: keys and values escaped as ``java.util.Properties`` reads them."""
    lines = []
    for key, value in facts.items():
        name = "".join(f"\\{c}" if c in "\\=:#! " else c for c in key)
        text = value.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
        lines.append(f"{name} = {text}\n")
    return "".join(lines)


def _categories() -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "matchedStatuses": [_STATUS[verdict]],
            # Java's matches() wants the whole message, JavaScript's test() is content with it.
            "messageRegex": rf"[\s\S]*verdict: {verdict.words}",
        }
        for name, verdict in _CATEGORIES
    ]
