from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from pytest_ai_how.errors import RecordError
from pytest_ai_how.report.assemble import assemble
from pytest_ai_how.report.commands import Kind, add_arguments, run
from pytest_ai_how.report.compare import compare
from pytest_ai_how.report.items import Measurement
from pytest_ai_how.report.model import RunReport, Verdict
from pytest_ai_how.report.writer_json import write_json
from tests.unit.report.sample import RUN, item, report, row


def typed(kind: Kind, *argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser, kind)
    return run(parser.parse_args(argv), kind)


def made(name: str, *verdicts: str, speed: float | None = None) -> RunReport:
    names = [f"SLU-{n:02d}" for n in range(len(verdicts))]
    results = [item(Verdict(v), n, reason=f"{n}: why") for v, n in zip(verdicts, names, strict=True)]
    if speed is not None:
        figure = Measurement(metric="storage.seq_write", value=speed, unit="MiB/s", node="node01")
        results[0] = results[0].model_copy(update={"measurements": (figure,)})
    return assemble(RUN.model_copy(update={"id": name}), results, [row(n) for n in names])


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for age, found in enumerate((made("new", "passed", "failed"), made("old", "passed", "passed"))):
        path = write_json(found, tmp_path / found.run.id)
        os.utime(path, (1000 - age, 1000 - age))
    return tmp_path


def test_report_prints_the_summary_and_its_status_is_the_verdict(
    reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("report", "old", "--reports", str(reports)) == 0
    assert capsys.readouterr().out.startswith("verdict: FIT — 2 of 2 checks passed\n")
    assert typed("report", "--reports", str(reports)) == 1
    assert capsys.readouterr().out.startswith("verdict: UNFIT — 1 of 2 checks failed: SLU-01: why\n")


def test_report_of_a_run_without_a_check_has_a_status_of_its_own(tmp_path: Path) -> None:
    write_json(made("none"), tmp_path / "none")
    assert typed("report", str(tmp_path / "none"), "--reports", str(tmp_path)) == 2


def test_report_prints_json_and_writes_html(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed("report", "old", "--json", "--reports", str(reports))
    assert json.loads(capsys.readouterr().out)["run"]["id"] == "old"
    page = reports / "page.html"
    typed("report", str(reports / "old" / "report.json"), "--html", str(page), "--reports", str(reports))
    assert capsys.readouterr().out == f"{page}\n"
    assert "verdict: FIT" in page.read_text()


def test_a_run_that_is_not_there_is_said_with_those_that_are(reports: Path) -> None:
    with pytest.raises(RecordError) as caught:
        typed("report", "gone", "--reports", str(reports))
    assert str(caught.value).startswith(
        f"{reports}: there is no report of a run 'gone'\n  expected: one of the newest: old, new\n  do: "
    )


def test_no_run_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there is no report of a run 'last'\n  expected: one of the newest: none"):
        typed("report", "--reports", str(tmp_path))


def test_compare_tells_what_changed_and_its_status_says_so(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("compare", "old", "new", "--reports", str(reports)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "old: FIT → new: UNFIT",
        "verdicts that differ: 1; checks in common: 2",
        "  SLU-01: passed → failed: SLU-01: why",
    ]
    assert typed("compare", "old", "old", "--reports", str(reports)) == 0
    assert "same verdicts; checks in common: 2" in capsys.readouterr().out


def test_nothing_in_common_is_never_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_json(made(name), tmp_path / name)
    assert typed("compare", "a", "b", "--reports", str(tmp_path)) == 2
    assert "nothing can be compared" in capsys.readouterr().out


def test_compare_puts_figures_side_by_side() -> None:
    got = compare(made("a", "passed", speed=50.0), made("b", "passed", speed=75.0))
    assert got.same
    assert list(got.lines())[-2:] == ["figures:", "  node01: storage.seq_write: 50 → 75 MiB/s (x 1.50)"]
    assert compare(made("a", "passed", speed=0.0), made("b", "passed", speed=75.0)).figures[0].ratio is None


def test_a_check_that_only_one_run_has_is_a_difference() -> None:
    got = compare(made("a", "passed"), made("b", "passed", "passed"))
    assert [str(change) for change in got.changes] == ["SLU-01: not there → passed"]
    assert not got.same


def test_the_runs_own_verdict_differs_too() -> None:
    cut = made("b", "passed").model_copy(update={"verdict": "undecided"})
    bad = RunReport.model_validate_json(cut.model_dump_json(warnings=False))
    assert not compare(made("a", "passed"), bad).same


def test_a_report_is_the_same_as_itself() -> None:
    assert compare(report(), report()).same
