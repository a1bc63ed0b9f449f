"""``junit.xml`` as continuous-integration systems read it (the Jenkins JUnit schema, junit-10.xsd).

One test suite a task, one test case a test item. ``failure`` is a failed check, ``error`` one that is broken, blocked
or without evidence, ``skipped`` one that is not applicable. What JUnit has no word for is in properties.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pytest_ai_how.report.model import CheckResult, Row, RunReport, Verdict
from pytest_ai_how.report.words import because, figure_line, first_line
from pytest_ai_how.report.writer_json import write_atomically

NAME = "junit.xml"
# XML 1.0, production Char: everything else may not be written, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_OUTCOME = {
    Verdict.FAILED: "failure",
    Verdict.BROKEN: "error",
    Verdict.BLOCKED: "error",
    Verdict.NO_EVIDENCE: "error",
    Verdict.NOT_APPLICABLE: "skipped",
    Verdict.NOT_SELECTED: "skipped",
    Verdict.MISSING: "skipped",
}


def write_junit(report: RunReport, folder: Path) -> Path:
    """Write ``junit.xml`` into the run's folder and return its path."""
    path = folder / NAME
    tree = junit_tree(report)
    ET.indent(tree)
    write_atomically(path, '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(tree, encoding="unicode") + "\n")
    return path


def junit_tree(report: RunReport) -> ET.Element:
    """The report as a ``testsuites`` element."""
    rows = {state.row.id: state.row for state in report.rows}
    root = ET.Element("testsuites", name=printable(f"pytest-ai-how {report.run.id}"))
    by_suite: dict[str, list[CheckResult]] = {}
    for result in report.results:
        by_suite.setdefault(suite_of(result, rows), []).append(result)
    for suite, results in sorted(by_suite.items()):
        root.append(_suite(suite, results, rows, report))
    _count(root, report.results)
    return root


def suite_of(result: CheckResult, rows: Mapping[str, Row]) -> str:
    """The task that a result is listed under: the first of its first row."""
    for check in result.ids:
        if check in rows and rows[check].tasks:
            return rows[check].tasks[0]
    return "other"


def printable(text: str) -> str:
    """Return ``text`` without characters that XML 1.0 forbids."""
    return _NOT_XML.sub("", text)


def _count(element: ET.Element, results: Sequence[CheckResult]) -> None:
    outcomes = [_OUTCOME.get(result.verdict, "") for result in results]
    element.set("tests", str(len(results)))
    element.set("failures", str(outcomes.count("failure")))
    element.set("errors", str(outcomes.count("error")))
    element.set("skipped", str(outcomes.count("skipped")))
    element.set("time", f"{sum(result.seconds for result in results):.3f}")


def _suite(name: str, results: Sequence[CheckResult], rows: Mapping[str, Row], report: RunReport) -> ET.Element:
    suite = ET.Element("testsuite", name=printable(name))
    _count(suite, results)
    started = min(result.started for result in results) or report.run.started
    suite.set("timestamp", datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    suite.set("hostname", printable(report.run.cluster or "localhost"))
    _properties(suite, [("run", report.run.id), ("driver", report.run.driver), ("verdict", report.verdict.value)])
    suite.extend(_case(result, rows) for result in results)
    return suite


def _case(result: CheckResult, rows: Mapping[str, Row]) -> ET.Element:
    module, _, name = result.nodeid.partition("::")
    case = ET.Element(
        "testcase",
        classname=printable(module.removesuffix(".py").replace("/", ".")),
        name=printable(name or result.nodeid),
        time=f"{result.seconds:.3f}",
    )
    if result.location:
        case.set("file", printable(result.location.rpartition(":")[0] or result.location))
    _properties(case, _facts(result, rows))
    if outcome := _OUTCOME.get(result.verdict):
        ending = ET.SubElement(case, outcome, message=printable(_message(result)))
        if outcome != "skipped":
            ending.set("type", result.verdict.value)
            ending.text = printable(result.trace)
    evidence = "\n".join(f"{item.name} ({item.kind}, {len(item.data)} bytes)" for item in result.attachments)
    if evidence:
        ET.SubElement(case, "system-out").text = printable(f"evidence:\n{evidence}")
    return case


def _message(result: CheckResult) -> str:
    # JUnit has one word, error, for three verdicts: say which.
    failed = result.verdict is Verdict.FAILED
    return first_line(result.reason) if failed else because(result.verdict, result.reason)


def _facts(result: CheckResult, rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    known = [rows[check] for check in result.ids if check in rows]
    tasks = dict.fromkeys(task for row in known for task in row.tasks)
    facts = [("verdict", result.verdict.value)]
    facts += [("check", check) for check in result.ids]
    facts += [("task", task) for task in tasks]
    facts += [("severity", row.severity.value) for row in known[:1]]
    facts += [("criterion", row.criterion) for row in known if row.criterion]
    facts += [("node", result.node)] if result.node else []
    facts += [("threshold", figure_line(figure)) for figure in result.measurements]
    return facts


def _properties(parent: ET.Element, pairs: Sequence[tuple[str, str]]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in pairs:
        ET.SubElement(properties, "property", name=name, value=printable(value))
