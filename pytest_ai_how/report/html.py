"""The report as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from pytest_ai_how.report.junit import suite_of
from pytest_ai_how.report.model import CheckResult, Row, RunReport, TaskLine, Verdict
from pytest_ai_how.report.words import counted, duration, figure_line, number, percent, verdict_line
from pytest_ai_how.report.writer_json import write_atomically

NAME = "report.html"


@dataclass(frozen=True, slots=True)
class Section:
    """The results of one task, as the template shows them; ``line`` is missing for tests without a task."""

    task: str
    line: TaskLine | None
    results: tuple[CheckResult, ...]


def write_html(report: RunReport, path: Path) -> Path:
    """Write the report to ``path`` (``report.html`` in it, if that is a folder) and return the file's path."""
    file = path / NAME if path.is_dir() else path
    write_atomically(file, render(report))
    return file


def render(report: RunReport) -> str:
    """The page. Everything from the report is escaped; an undefined name in the template is an error."""
    environment = Environment(
        loader=PackageLoader("pytest_ai_how.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        duration=duration,
        counted=counted,
        figure=figure_line,
        number=number,
        percent=percent,
        moment=_moment,
        base64=_base64,
    )
    rows = {state.row.id: state.row for state in report.rows}
    return environment.get_template("report.html.j2").render(
        report=report,
        headline=verdict_line(report),
        sections=sections(report, rows),
        rows=rows,
        verdicts=[verdict for verdict in Verdict if any(result.verdict is verdict for result in report.results)],
        untested=[state for state in report.rows if not state.verdict.executed],
        figures=[(result, item) for result in report.results for item in result.measurements],
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sections(report: RunReport, rows: dict[str, Row]) -> Sequence[Section]:
    """The results by task, each under the first task of its first row; tests without a row come last."""
    lines = {line.task: line for line in report.tasks}
    by_task: dict[str, list[CheckResult]] = {}
    for result in report.results:
        by_task.setdefault(suite_of(result, rows), []).append(result)
    order = sorted(by_task, key=lambda task: (task not in lines, task))
    return [Section(task, lines.get(task), tuple(by_task[task])) for task in order]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
