from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.report.assemble import assemble
from pytest_ai_how.report.model import Severity, Verdict
from pytest_ai_how.report.terminal import Style, summary
from pytest_ai_how.report.words import counted, duration, number, verdict_line
from tests.unit.report.sample import RUN, item, report, row

DATA = Path(__file__).parents[2] / "data" / "report"


@pytest.mark.parametrize("width", [80, 120])
def test_the_whole_summary(width: int) -> None:
    lines = summary(report(), Path("reports/20261123-160000-a1b2"), Style(width=width))
    assert "\n".join(lines) + "\n" == (DATA / f"summary-{width}.txt").read_text()


def test_what_a_machine_said_cannot_steer_the_terminal() -> None:
    lines = summary(
        assemble(RUN, [item(Verdict.FAILED, "SLU-12", reason="node01: \x1b[2J\x07gone\nmore")], [row("SLU-12")])
    )
    assert "node01: [2Jgone  [FAILED SLU-12]" in lines
    assert not any("\x1b" in line or "\x07" in line for line in lines)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = summary(report(), Path("reports/x"), Style(width=width))
    whole = [line for line in lines if line.startswith("verdict: ") or line.endswith("]")]
    assert len(whole) == 5
    assert max(len(line) for line in lines if line not in whole) <= width
    assert not any("\x1b[31m" in line for line in lines)


@pytest.mark.parametrize("width", [20, 80])
def test_a_verdict_a_trouble_and_a_failure_are_never_cut(width: int) -> None:
    reason = f"node01: {'seen ' * 60}end"
    run = RUN.model_copy(update={"troubles": (f"localhost: {'left ' * 60}end",)})
    results = [item(Verdict.FAILED, "SLU-12", reason=reason), item(Verdict.BROKEN, "SLU-13", reason=reason)]
    lines = summary(assemble(run, results, [row("SLU-12"), row("SLU-13")]), style=Style(width=width))
    assert lines[0] == f"verdict: UNFIT — 1 of 2 checks failed: {reason}"
    assert lines[1] == f"  {run.troubles[0]}"
    assert f"{reason}  [FAILED SLU-12]" in lines
    assert f"{reason}  [BROKEN SLU-13]" in lines


def test_where_there_is_no_terminal_nothing_is_cut() -> None:
    lines = summary(report(), Path(f"reports/{'x' * 300}"))
    assert not any("…" in line for line in lines)
    assert "\n".join(lines) + "\n" == (DATA / "summary-whole.txt").read_text().replace("FOLDER", "x" * 300)


def test_a_fit_run_says_what_it_left_out() -> None:
    rows = [row("SLU-01"), row("SLU-02"), row("SLU-03")]
    found = [item(Verdict.PASSED, "SLU-01")]
    left = {"SLU-01": "deselected in part: test_x[node02]", "SLU-02": "deselected"}
    got = assemble(RUN, found, rows, deselected=left)
    assert verdict_line(got) == "verdict: FIT — 1 of 1 checks passed, 1 of them in part, 1 not selected"
    assert "  in part: deselected in part: test_x[node02]: SLU-01" in summary(got)


def test_colours_come_only_when_asked_for() -> None:
    assert summary(report(), style=Style(colour=True))[0].startswith("\x1b[1m\x1b[31mverdict: UNFIT")


def test_a_long_title_gives_way_to_the_counts() -> None:
    lines = summary(report(), style=Style(width=80))
    assert "1 passed, 1 failed, 1 blocked, 1 not applicable" in lines[3]
    assert lines[3].endswith("49.2 s")


@pytest.mark.parametrize(
    ("verdicts", "line"),
    [
        (["passed", "passed"], "verdict: FIT — 2 of 2 checks passed"),
        (["passed", "not_applicable"], "verdict: FIT — 1 of 2 checks passed, 1 not applicable"),
        (["passed", "failed", "failed"], "verdict: UNFIT — 2 of 3 checks failed: node01: why"),
        (["passed", "broken"], "verdict: UNDECIDED — 1 of 2 checks have no answer: SLU-01 broken: node01: why"),
        (["not_applicable"], "verdict: UNDECIDED — no check was executed"),
        ([], "verdict: UNDECIDED — no check was executed"),
    ],
)
def test_the_verdict_line(verdicts: list[str], line: str) -> None:
    names = [f"SLU-{n:02d}" for n in range(len(verdicts))]
    results = [item(Verdict(v), name, reason=f"node{name[-2:]}: why") for v, name in zip(verdicts, names, strict=True)]
    assert verdict_line(assemble(RUN, results, [row(name) for name in names])) == line


def test_the_verdict_line_says_that_a_failure_was_informational() -> None:
    rows = [row("SLU-01"), row("SLU-02", Severity.INFORMATIONAL)]
    got = assemble(RUN, [item(Verdict.PASSED, "SLU-01"), item(Verdict.FAILED, "SLU-02")], rows)
    assert verdict_line(got) == "verdict: FIT — 1 of 2 checks passed, 1 failed (informational)"


def test_the_trouble_of_a_run_stands_under_its_verdict() -> None:
    run = RUN.model_copy(update={"troubles": ("localhost: interrupted after 1 of 9 checks",)})
    lines = summary(assemble(run, [item(Verdict.PASSED, "SLU-12")], [row("SLU-12")]))
    assert lines[:2] == [
        "verdict: UNDECIDED — localhost: interrupted after 1 of 9 checks",
        "  localhost: interrupted after 1 of 9 checks",
    ]


def test_rows_with_the_same_reason_are_one_line() -> None:
    names = [f"SLU-{n:02d}" for n in range(1, 11)]
    results = [item(Verdict.NOT_APPLICABLE, name, reason="no gpu.real: simulated devices") for name in names]
    lines = summary(assemble(RUN, results, [row(name) for name in names]), style=Style(width=200))
    assert (
        "  not applicable: no gpu.real: simulated devices: 10 (SLU-01, SLU-02, SLU-03, SLU-04, SLU-05, SLU-06, "
        "SLU-07, SLU-08 …)" in lines
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (200.4, "3 min 20 s"), (3900, "1 h 05 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (12.345, "12.35"), (0.002, "0.002"), (184300.4, "184300"), (5e9, "5.000e+09"), (float("nan"), "nan")],
)
def test_numbers(value: float, words: str) -> None:
    assert number(value) == words


def test_counts_name_passed_first_and_nothing_by_its_name() -> None:
    assert (
        counted({Verdict.FAILED: 1, Verdict.PASSED: 31, Verdict.NOT_APPLICABLE: 2})
        == "31 passed, 1 failed, 2 not applicable"
    )
    assert counted({}) == "nothing"
