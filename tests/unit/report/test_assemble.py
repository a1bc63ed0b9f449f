from __future__ import annotations

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.report.assemble import amend, assemble, completeness, rows_of
from pytest_ai_how.report.items import Attachment
from pytest_ai_how.report.model import CheckResult, Row, RunReport, RunVerdict, Severity, Verdict
from pytest_ai_how.report.redact import REDACTED, Redactor
from tests.unit.report.sample import RUN, item, report, row

B, D, I = Severity.BLOCKING, Severity.DEFAULT, Severity.INFORMATIONAL  # noqa: E741 - the catalogue's letters


def judged(*cases: tuple[Severity, Verdict], troubles: tuple[str, ...] = ()) -> RunReport:
    rows = [row(f"SLU-{n:02d}", severity) for n, (severity, _) in enumerate(cases)]
    results = [item(verdict, f"SLU-{n:02d}", reason=f"node0{n}: seen") for n, (_, verdict) in enumerate(cases)]
    return assemble(RUN.model_copy(update={"troubles": troubles}), results, rows)


@pytest.mark.parametrize(
    ("cases", "verdict", "reasons"),
    [
        ([(B, "passed"), (D, "passed")], "fit", ()),
        ([(B, "passed"), (I, "failed")], "fit", ()),
        ([(B, "passed"), (I, "broken")], "fit", ()),
        ([(B, "passed"), (B, "not_applicable")], "fit", ()),
        ([(B, "failed"), (D, "passed")], "unfit", ("SLU-00 failed: node00: seen",)),
        ([(B, "passed"), (D, "failed")], "unfit", ("SLU-01 failed: node01: seen",)),
        ([(B, "broken"), (D, "failed")], "unfit", ("SLU-01 failed: node01: seen", "SLU-00 broken: node00: seen")),
        ([(B, "passed"), (D, "broken")], "undecided", ("SLU-01 broken: node01: seen",)),
        ([(B, "passed"), (D, "blocked")], "undecided", ("SLU-01 blocked: node01: seen",)),
        ([(B, "passed"), (D, "no_evidence")], "undecided", ("SLU-01 no evidence: node01: seen",)),
        ([(B, "not_applicable")], "undecided", ("no check was executed",)),
        ([(I, "passed")], "undecided", ("no check was executed",)),
        ([(B, "blocked")], "undecided", ("no check was executed", "SLU-00 blocked: node00: seen")),
        ([], "undecided", ("no check was executed",)),
    ],
)
def test_the_verdict_of_a_run(cases: list[tuple[Severity, str]], verdict: str, reasons: tuple[str, ...]) -> None:
    got = judged(*((severity, Verdict(word)) for severity, word in cases))
    assert (got.verdict.value, got.reasons) == (verdict, reasons)


def test_trouble_of_the_run_itself_leaves_it_undecided_but_does_not_hide_a_failure() -> None:
    cut = ("localhost: interrupted by SIGTERM after 3 of 9 checks",)
    assert judged((B, Verdict.PASSED), troubles=cut).reasons == cut
    assert judged((B, Verdict.PASSED), troubles=cut).verdict is RunVerdict.UNDECIDED
    assert judged((B, Verdict.FAILED), troubles=cut).reasons == ("SLU-00 failed: node00: seen", *cut)


@pytest.mark.parametrize(
    ("results", "verdict", "reasons"),
    [
        ([item(Verdict.PASSED, "SLU-12")], RunVerdict.UNDECIDED, ()),
        ([item(Verdict.FAILED, "SLU-12", reason="no")], RunVerdict.UNFIT, ("SLU-12 failed: no",)),
        (
            [item(Verdict.PASSED, "SLU-12"), item(Verdict.FAILED, nodeid="tests/test_a.py::test_b", reason="no")],
            RunVerdict.UNFIT,
            ("tests/test_a.py::test_b failed: no",),
        ),
    ],
)
def test_trouble_after_a_report_was_assembled_counts_and_holds_no_secret(
    results: list[CheckResult], verdict: RunVerdict, reasons: tuple[str, ...]
) -> None:
    redactor = Redactor()
    redactor.register("topsecretvalue")
    before = assemble(RUN, results, [row("SLU-12")], redactor=redactor)
    late = RUN.model_copy(update={"ended": RUN.ended + 1, "troubles": ("it was not taken down: topsecretvalue",)})
    got = amend(before, late, redactor)
    said = (f"it was not taken down: {REDACTED}",)
    assert (got.verdict, got.reasons) == (verdict, (*reasons, *said))
    assert (got.run.troubles, got.run.ended) == (said, late.ended)
    # What was judged before stays as it was, word for word.
    same = ("results", "rows", "tasks", "completeness")
    assert all(getattr(got, name) is getattr(before, name) for name in same)
    assert amend(before, RUN, redactor) == before


def test_a_failing_test_without_a_check_counts() -> None:
    results = [
        item(Verdict.PASSED, "SLU-12"),
        item(Verdict.FAILED, nodeid="tests/test_a.py::test_b", reason="node01: no"),
    ]
    got = assemble(RUN, results, [row("SLU-12")])
    assert got.verdict is RunVerdict.UNFIT
    assert got.reasons == ("tests/test_a.py::test_b failed: node01: no",)


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (["passed", "failed", "broken"], "failed"),
        (["passed", "broken", "no_evidence"], "broken"),
        (["passed", "no_evidence", "blocked"], "no_evidence"),
        (["passed", "blocked", "not_applicable"], "blocked"),
        (["not_applicable", "passed"], "passed"),
        (["not_applicable", "not_applicable"], "not_applicable"),
    ],
)
def test_the_worst_of_several_items_is_the_state_of_the_row(verdicts: list[str], worst: str) -> None:
    results = [item(Verdict(word), "SLU-12", nodeid=f"t::{n}", reason=word) for n, word in enumerate(verdicts)]
    state = assemble(RUN, results, [row("SLU-12")]).row("SLU-12")
    assert state.verdict.value == worst
    assert len(state.nodeids) == len(verdicts)
    assert state.seconds == len(verdicts)


def test_a_row_that_passed_says_what_part_of_it_was_not_applicable() -> None:
    results = [
        item(Verdict.PASSED, "SLU-12", nodeid="t::a"),
        item(Verdict.NOT_APPLICABLE, "SLU-12", nodeid="t::b", reason="no gpu.real"),
    ]
    state = assemble(RUN, results, [row("SLU-12")]).row("SLU-12")
    assert (state.verdict, state.reason) == (Verdict.PASSED, "1 of 2 items not applicable: no gpu.real")


def test_every_row_of_the_catalogue_has_a_state() -> None:
    got = {state.row.id: (state.verdict.value, state.reason) for state in report().rows}
    assert got["INF-01"] == ("not_selected", "not in suites/phase6")
    assert got["INF-02"] == ("missing", "no check is written for this row")
    assert got["SLU-32"] == ("not_applicable", "no gpu.real: simulated devices")
    assert len(got) == 8


def test_one_item_may_test_two_rows() -> None:
    got = assemble(RUN, [item(Verdict.PASSED, "SLU-12", "SLU-13")], [row("SLU-12"), row("SLU-13")])
    assert {state.verdict for state in got.rows} == {Verdict.PASSED}
    assert got.tasks[0].seconds == 1.0


def test_a_check_that_the_catalogue_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"test_slu_99: check 'SLU-99' is not in the catalogue"):
        assemble(RUN, [item(Verdict.PASSED, "SLU-99")], [row("SLU-12")])


def test_task_lines_count_rows_and_add_up_each_item_once() -> None:
    first, second = report().tasks
    assert (first.task, first.title) == ("TASK-041", "BeeGFS performance testing")
    assert {v.value: n for v, n in first.counts.items()} == {"failed": 1, "broken": 1, "passed": 1}
    assert (second.task, second.seconds) == ("TASK-042", 2.0 + 46.2 + 1.0)


def test_a_task_that_nobody_selected_has_no_line() -> None:
    got = assemble(RUN, [item(Verdict.PASSED, "SLU-12")], [row("SLU-12"), row("STO-18", D, "TASK-041")])
    assert [line.task for line in got.tasks] == ["TASK-042"]


def test_completeness_counts_selected_rows_and_names_what_has_no_answer() -> None:
    got = report().completeness
    assert (got.rows, got.blocking, got.missing) == (6, 1, 1)
    assert got.executed == pytest.approx(100 * 4 / 6)
    assert got.passed == pytest.approx(100 * 1 / 3)
    assert got.unexecuted == ("STO-21", "SLU-31")


def test_nothing_selected_is_nought_per_cent_never_a_hundred() -> None:
    got = completeness([])
    assert (got.executed, got.passed, got.rows) == (0.0, 0.0, 0)


def test_no_sample_is_an_empty_attachment_nor_none_at_all() -> None:
    assert CheckResult(nodeid="t", verdict=Verdict.PASSED).samples == 0
    assert (
        CheckResult(nodeid="t", verdict=Verdict.PASSED, attachments=(Attachment(name="a", content=" "),)).samples == 0
    )
    assert (
        CheckResult(nodeid="t", verdict=Verdict.PASSED, attachments=(Attachment(name="a", content="x"),)).samples == 1
    )


def test_the_shipped_catalogue_makes_rows() -> None:
    rows = {found.id: found for found in rows_of(load_catalogue())}
    assert len(rows) == len(load_catalogue())
    assert isinstance(rows["SLU-12"], Row)
    assert "TASK-042" in rows["SLU-12"].tasks
    assert rows["E2E-21"].severity is I


def test_a_row_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="XXX-01: no such row in the report of run 20261123-160000-a1b2"):
        report().row("XXX-01")
