from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.errors import RecordError
from pytest_ai_how.report.allure import properties, write_allure
from pytest_ai_how.report.assemble import assemble
from pytest_ai_how.report.html import render, write_html
from pytest_ai_how.report.junit import junit_tree, printable, write_junit
from pytest_ai_how.report.model import CheckResult, Verdict
from pytest_ai_how.report.writer_json import load_report, write_atomically, write_json
from tests.unit.report.sample import BASE, RUN, item, report, row


def test_json_comes_back_as_it_was_from_folder_and_file(tmp_path: Path) -> None:
    path = write_json(report(), tmp_path / "run")
    assert path == tmp_path / "run" / "report.json"
    assert load_report(path) == report()
    assert load_report(path.parent) == report()
    assert [found.name for found in path.parent.iterdir()] == ["report.json"]


def test_a_result_survives_the_way_from_a_worker() -> None:
    for result in report().results:
        assert CheckResult.model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "schema_version is None\n  expected: 1"),
        ('{"schema_version": 99}', "schema_version is 99\n  expected: 1\n  do: read it with the version"),
        ('{"schema_version": 1}', "run: Field required"),
    ],
)
def test_what_is_no_report_is_said_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(RecordError) as caught:
        load_report(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_report_that_is_not_there_is_said_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such report"):
        load_report(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "new \udc80")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_junit_has_a_suite_a_task_and_a_word_for_each_verdict(tmp_path: Path) -> None:
    root = ET.parse(write_junit(report(), tmp_path)).getroot()
    assert root.attrib | {"name": ""} == {
        "name": "", "tests": "7", "failures": "2", "errors": "3", "skipped": "1", "time": "52.200",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["TASK-041", "TASK-042", "other"]
    slurm = root[1]
    assert (slurm.get("timestamp"), slurm.get("tests")) == ("2026-09-21T14:13:20", "4")
    outcomes = {case.get("name"): [child.tag for child in case] for case in slurm.iter("testcase")}
    assert outcomes == {
        "test_slu_12": ["properties", "failure", "system-out"],
        "test_slu_13": ["properties", "system-out"],
        "test_slu_31": ["properties", "error"],
        "test_slu_32": ["properties", "skipped"],
    }


def test_junit_says_check_task_threshold_and_verdict_in_properties() -> None:
    (case,) = [c for c in junit_tree(report()).iter("testcase") if c.get("name") == "test_sto_18"]
    facts = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert (facts["check"], facts["task"], facts["verdict"], facts["severity"]) == (
        "STO-18", "TASK-041", "failed", "default",
    )  # fmt: skip
    assert facts["threshold"] == (
        "node01: storage.seq_write 12.3 MiB/s; limit at least 40 MiB/s (40% of storage.raw.seq_write, 100 MiB/s) "
        "(configs/limits/local.yaml:12); ceiling 100 MiB/s, reached 12.3 %; EXCEEDED"
    )


def test_junit_carries_the_pass_criterion() -> None:
    (case,) = [c for c in junit_tree(report()).iter("testcase") if c.get("name") == "test_slu_12"]
    assert ("criterion", "each host name comes back") in [
        (p.get("name"), p.get("value")) for p in case.iter("property")
    ]


def test_junit_tells_blocked_from_broken_in_the_message() -> None:
    messages = {c.get("name"): e.get("message") for c in junit_tree(report()).iter("testcase") for e in c.iter("error")}
    assert messages["test_slu_31"] == "blocked: step 'slurm' failed: node02: no answer"
    assert messages["test_own"] == "no evidence: nothing was measured"


def test_characters_that_xml_forbids_are_left_out() -> None:
    assert printable("a\x00\x1b[0m\ud800\ufffe\tb\U0001f600") == "a[0m\tb\U0001f600"
    (case,) = [c for c in junit_tree(report()).iter("testcase") if c.get("name") == "test_slu_12"]
    (failure,) = case.iter("failure")
    assert failure.get("message") == "node02: srun hostname exited with 1 <b>&[0m"
    assert failure.text == "test_task042.py:12: AssertionError"


def allure_results(folder: Path) -> dict[str, Any]:
    found = [json.loads(file.read_text()) for file in folder.glob("*-result.json")]
    return {str(result["fullName"]).rpartition("::")[2]: result for result in found}


def test_allure_has_one_result_an_item_with_labels_details_and_files(tmp_path: Path) -> None:
    folder = write_allure(report(), tmp_path)
    results = allure_results(folder)
    assert len(results) == 7
    failed = results["test_slu_12"]
    assert failed["name"] == "SLU-12 srun on each node"
    assert failed["description"] == "SLU-12: each host name comes back"
    assert (failed["status"], failed["start"], failed["stop"]) == ("failed", BASE * 1000, BASE * 1000 + 2000)
    labels = {(label["name"], label["value"]) for label in failed["labels"]}
    assert labels >= {
        ("suite", "TASK-042 SLURM integration testing"), ("severity", "blocker"), ("epic", "phase6"),
        ("tag", "SLU-12"), ("host", "node02"), ("thread", "gw1"),
    }  # fmt: skip
    assert failed["statusDetails"]["message"].splitlines()[0].startswith("node02: srun hostname exited with 1")
    (step,) = failed["steps"]
    assert (step["name"], step["status"]) == ("ask node02", "failed")
    assert (folder / step["attachments"][0]["source"]).read_text().startswith("node02$ srun hostname")
    (loose,) = failed["attachments"]
    assert (folder / loose["source"]).read_bytes() == b"\xff\x00bin"


def test_allure_never_calls_blocked_or_unproven_skipped(tmp_path: Path) -> None:
    results = allure_results(write_allure(report(), tmp_path))
    assert {name: result["status"] for name, result in results.items()} == {
        "test_slu_12": "failed", "test_slu_13": "passed", "test_slu_31": "broken", "test_slu_32": "skipped",
        "test_sto_18": "failed", "test_sto_21": "broken", "test_own": "broken",
    }  # fmt: skip
    assert [p["value"] for p in results["test_sto_18"]["parameters"]] == [
        "12.3 MiB/s (limit at least 40 MiB/s (40% of storage.raw.seq_write, 100 MiB/s) (configs/limits/local.yaml:12); "
        "ceiling 100 MiB/s, reached 12.3 %; EXCEEDED)"
    ]


def test_each_allure_category_takes_its_verdict_and_no_other(tmp_path: Path) -> None:
    folder = write_allure(report(), tmp_path)
    categories = json.loads((folder / "categories.json").read_text())
    for name, result in allure_results(folder).items():
        if result["status"] == "passed":
            continue
        taken = [
            category["name"]
            for category in categories
            if result["status"] in category["matchedStatuses"]
            and re.fullmatch(category["messageRegex"], result["statusDetails"]["message"])
        ]
        expected = {
            "test_slu_12": "Product defect", "test_sto_18": "Product defect", "test_slu_31": "Blocked by a gate",
            "test_slu_32": "Not applicable", "test_sto_21": "Harness", "test_own": "No evidence",
        }  # fmt: skip
        assert taken == [expected[name]]


def test_allure_history_is_kept_over_runs_and_differs_by_test_and_cluster(tmp_path: Path) -> None:
    first, again = (allure_results(write_allure(report(), tmp_path / name)) for name in "ab")
    other = report().model_copy(update={"run": RUN.model_copy(update={"cluster": "site"})})
    elsewhere = allure_results(write_allure(other, tmp_path / "c"))
    identities = {name: result["historyId"] for name, result in first.items()}
    assert identities == {name: result["historyId"] for name, result in again.items()}
    assert len(set(identities.values())) == 7
    assert not set(identities.values()) & {result["historyId"] for result in elsewhere.values()}


def test_allure_results_of_an_earlier_write_are_replaced(tmp_path: Path) -> None:
    write_allure(report(), tmp_path)
    assert (
        len(allure_results(write_allure(report(), tmp_path))) == len(list(tmp_path.glob("allure/*-result.json"))) == 7
    )


def test_allure_environment_is_a_properties_file(tmp_path: Path) -> None:
    text = (write_allure(report(), tmp_path) / "environment.properties").read_text()
    assert "driver = nspawn\n" in text
    assert "verdict = unfit\n" in text
    assert "absent = gpu.real\n" in text
    assert properties({"a b=c": "x\\y\nz"}) == "a\\ b\\=c = x\\\\y\\nz\n"


def test_html_needs_no_other_file_and_escapes_what_machines_said(tmp_path: Path) -> None:
    page = render(report())
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    for link in ('src="http', "href=", "url(", "@import"):
        assert link not in page
    assert page.count('<tr class="result"') == 7
    assert 'data-verdict="no_evidence"' in page
    assert "verdict: UNFIT" in page
    assert write_html(report(), tmp_path) == tmp_path / "report.html"
    assert write_html(report(), tmp_path / "x" / "one.html").read_text() == page


class Nesting(HTMLParser):
    """Fails on an element that is closed without having been opened, or the other way round."""

    void = ("meta", "input", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{self.getpos()}: </{tag}>"


def test_html_is_well_nested() -> None:
    parser = Nesting()
    parser.feed(render(report()))
    assert parser.open == []


def test_html_of_an_empty_run_is_a_page() -> None:
    page = render(assemble(RUN, [], [row("SLU-12")]))
    assert "verdict: UNDECIDED — no check was executed" in page
    assert "1 of 1 rows" in page


def test_html_cannot_be_left_by_a_hostile_name() -> None:
    hostile = item(Verdict.FAILED, nodeid="t::</script><script>alert(1)</script>", reason='"><img src=x>')
    page = render(assemble(RUN, [hostile], []))
    assert "<script>alert" not in page
    assert "<img" not in page
