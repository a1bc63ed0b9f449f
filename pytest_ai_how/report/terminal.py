"""The summary that ends a run, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.report.items import Measurement
from pytest_ai_how.report.model import RunReport, RunVerdict, Verdict
from pytest_ai_how.report.words import because, counted, duration, first_line, number, percent, verdict_line

_RED, _GREEN, _YELLOW, _BOLD, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_COLOURS = {RunVerdict.FIT: _GREEN, RunVerdict.UNFIT: _RED, RunVerdict.UNDECIDED: _YELLOW}
_MARKS = {Verdict.FAILED: "FAILED", Verdict.BROKEN: "BROKEN", Verdict.NO_EVIDENCE: "NO EVIDENCE"}


@dataclass(frozen=True, slots=True)
class Style:
    """How wide the terminal is, in characters, and whether it shows colours (SGR codes).

    Without a width (a file, a pipe, the log of a CI system) nothing is cut.
    """

    width: int | None = None
    colour: bool = False

    def fit(self, line: str) -> str:
        """Cut ``line`` to the width, with an ellipsis; the whole text is in the reports."""
        if self.width is None or len(line) <= self.width:
            return line
        return line[: self.width - 1].rstrip() + "…"

    def paint(self, line: str, code: str) -> str:
        """Return ``line`` in a colour, if colours are shown."""
        return f"{code}{line}{_OFF}" if self.colour else line


def summary(report: RunReport, folder: Path | None = None, style: Style | None = None) -> list[str]:
    """The lines of the summary: verdict, tasks, failures, what was not tested, figures, where the reports lie.

    The verdict, its troubles and the failures are whole on any terminal: they are what the reader came for.
    """
    look = style or Style()
    sections = (
        tasks(report, look),
        failures(report, look),
        untested(report, look),
        figures(report, look),
        [f"reports: {folder}"] if folder else [],
    )
    head = look.paint(verdict_line(report), _BOLD + _COLOURS[report.verdict])
    lines = [head, *(f"  {first_line(trouble)}" for trouble in report.run.troubles)]
    for section in sections:
        if section:
            lines += ["", *section]
    return lines


def tasks(report: RunReport, style: Style) -> list[str]:
    """``TASK-042 SLURM integration testing  31 passed, 1 failed, 2 not applicable  48.2 s``, aligned."""
    rows = [
        (f"{line.task} {line.title}".strip(), counted(_tested(line.counts)), duration(line.seconds))
        for line in report.tasks
    ]
    if not rows:
        return []
    middle, last = (max(len(row[column]) for row in rows) for column in (1, 2))
    # The counts matter more than the title: on a narrow terminal the title gives way.
    first = max(len(row[0]) for row in rows)
    if style.width is not None:
        first = max(12, min(first, style.width - middle - last - 4))
    narrow = Style(first)
    return [
        style.fit(f"{narrow.fit(name):{first}}  {count:{middle}}  {time:>{last}}".rstrip())
        for name, count, time in rows
    ]


def _tested(counts: Mapping[Verdict, int]) -> dict[Verdict, int]:
    return {v: n for v, n in counts.items() if v not in (Verdict.MISSING, Verdict.NOT_SELECTED)}


def failures(report: RunReport, style: Style) -> list[str]:
    """One line for each item that failed, broke or measured nothing, the culprit first."""
    worst = [result for mark in _MARKS for result in report.results if result.verdict is mark]
    lines = []
    for result in worst:
        checks = ", ".join(result.ids) or result.nodeid
        colour = _RED if result.verdict is Verdict.FAILED else _YELLOW
        lines.append(style.paint(f"{first_line(result.reason)}  [{_MARKS[result.verdict]} {checks}]", colour))
    return lines


def untested(report: RunReport, style: Style) -> list[str]:
    """What was not put to the test, or only in part, grouped by the reason."""
    states = [(state.verdict, state.reason, state.row.id) for state in report.rows]
    states += [(result.verdict, result.reason, result.nodeid) for result in report.results if not result.ids]
    groups: dict[tuple[Verdict, str], list[str]] = {}
    for verdict, reason, name in states:
        if verdict in (Verdict.BLOCKED, Verdict.NOT_APPLICABLE, Verdict.NOT_SELECTED, Verdict.MISSING):
            groups.setdefault((verdict, because(verdict, reason)), []).append(name)
        elif verdict is Verdict.PASSED and reason:
            groups.setdefault((verdict, f"in part: {first_line(reason)}"), []).append(name)
    order = sorted(groups, key=lambda group: (list(Verdict).index(group[0]), group[1]))
    lines = [style.fit(f"  {group[1]}: {_some(groups[group])}") for group in order]
    return ["not put to the test:", *lines] if lines else []


def _some(ids: list[str], most: int = 8) -> str:
    # The number first: a narrow terminal cuts the rest.
    return ", ".join(ids) if len(ids) <= most else f"{len(ids)} ({', '.join(ids[:most])} …)"


def figures(report: RunReport, style: Style) -> list[str]:
    """The figures against their limits, as a table; the limit comes last, for a narrow terminal cuts it."""
    table = [("figure", "value", "share", "ceiling", "limit")]
    table += [_figure(m) for result in report.results for m in result.measurements if m.verdict != "ceiling"]
    if len(table) == 1:
        return []
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    return [
        style.fit("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        for row in table
    ]


def _figure(measurement: Measurement) -> tuple[str, str, str, str, str]:
    node = f"{measurement.node}: " if measurement.node else ""
    mark = f" {measurement.verdict.upper()}" if measurement.verdict in ("exceeded", "invalid") else ""
    ceiling = f"{number(measurement.ceiling)} {measurement.unit}" if measurement.ceiling is not None else ""
    return (
        f"{node}{measurement.metric}",
        f"{number(measurement.value)} {measurement.unit}{mark}",
        percent(measurement.fraction),
        ceiling,
        measurement.limit or "none, recorded",
    )
