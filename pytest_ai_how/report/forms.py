"""All forms that a report is written in."""

from __future__ import annotations

from pathlib import Path

from pytest_ai_how.report.allure import write_allure
from pytest_ai_how.report.html import write_html
from pytest_ai_how.report.junit import write_junit
from pytest_ai_how.report.model import RunReport
from pytest_ai_how.report.writer_json import write_json


def write_all(report: RunReport, folder: Path) -> tuple[str, ...]:
    """Write every form below ``folder``; what can't be written is a complaint, and the others are written."""
    complaints = []
    for write in (write_json, write_allure, write_junit, write_html):
        try:
            write(report, folder)
        except OSError as error:
            complaints.append(f"{folder}: {write.__name__}: {error}")
    return tuple(complaints)
