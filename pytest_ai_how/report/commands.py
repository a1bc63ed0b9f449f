"""``pytest-ai-how report RUN`` and ``pytest-ai-how compare OLD NEW``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Literal

from pytest_ai_how.errors import RecordError
from pytest_ai_how.report.compare import compare
from pytest_ai_how.report.html import write_html
from pytest_ai_how.report.model import RunReport, RunVerdict
from pytest_ai_how.report.terminal import Style, summary
from pytest_ai_how.report.writer_json import NAME, load_report

Kind = Literal["report", "compare"]
# Exit statuses: the run is fit (or both runs say the same), it is not (or they differ), it cannot be said.
_STATUS = {RunVerdict.FIT: 0, RunVerdict.UNFIT: 1, RunVerdict.UNDECIDED: 2}
_RUN = "a run's identifier, its folder, or its report.json; 'last' is the newest in --reports"


def add_arguments(parser: argparse.ArgumentParser, kind: Kind) -> None:
    """Declare the arguments of ``report`` or ``compare``."""
    if kind == "report":
        parser.add_argument("run", metavar="RUN", nargs="?", default="last", help=_RUN)
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--html", metavar="FILE", type=Path, help="write one HTML file instead of the summary")
        form.add_argument("--json", action="store_true", help="print report.json instead of the summary")
    else:
        parser.add_argument("old", metavar="OLD", help=_RUN)
        parser.add_argument("new", metavar="NEW", help=_RUN)
    parser.add_argument(
        "--reports", metavar="DIR", type=Path, default=Path("reports"), help="where runs lie (default: reports)"
    )


def run(args: argparse.Namespace, kind: Kind) -> int:
    """Do the command and return the exit status.

    0: fit, or same verdicts; 1: unfit, or verdicts differ; 2: undecided, or nothing in common. Raises
    :class:`RecordError` when a report is not there or cannot be read.
    """
    return _report(args) if kind == "report" else _compare(args)


def find(name: str, reports: Path) -> RunReport:
    """Load the report that ``name`` means. Raises :class:`RecordError` that lists the runs there are."""
    runs = sorted(reports.glob(f"*/{NAME}"), key=lambda path: path.stat().st_mtime)
    if name == "last" and runs:
        return load_report(runs[-1])
    for path in (reports / name, Path(name)):
        if (path / NAME).is_file() or (path.is_file() and path.suffix == ".json"):
            return load_report(path)
    known = ", ".join(path.parent.name for path in runs[-5:]) or "none"
    raise RecordError(
        str(reports), f"there is no report of a run {name!r}", expected=f"one of the newest: {known}", cure=_RUN
    )


def _report(args: argparse.Namespace) -> int:
    report = find(args.run, args.reports)
    if args.html:
        sys.stdout.write(f"{write_html(report, args.html)}\n")
    elif args.json:
        sys.stdout.write(report.model_dump_json(indent=1) + "\n")
    else:
        terminal = sys.stdout.isatty()
        style = Style(width=shutil.get_terminal_size().columns if terminal else None, colour=terminal)
        sys.stdout.write("\n".join(summary(report, style=style)) + "\n")
    return _STATUS[report.verdict]


def _compare(args: argparse.Namespace) -> int:
    comparison = compare(find(args.old, args.reports), find(args.new, args.reports))
    sys.stdout.write("\n".join(comparison.lines()) + "\n")
    if not comparison.common:
        return 2
    return 0 if comparison.same else 1
