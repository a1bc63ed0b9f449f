"""Every check of TASK-044 goes red on runs that went wrong in the way that the check is about."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.report.allure import write_allure
from pytest_ai_how.report.assemble import assemble, row_states, rows_of
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.items import Attachment, Measurement
from pytest_ai_how.report.junit import write_junit
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.report.model import Absent, CheckResult, RowState, Run, Verdict
from pytest_ai_how.report.writer_json import write_json
from pytest_ai_how.shell import Result
from suites.phase6 import test_task044_full_stack as task044
from suites.phase6._nested import Nested, NestedRun, Profile

STARTED = 1_790_000_000.0
FILE = "suites/phase6/test_it.py"
GPU = "capability 'gpu' is absent: no gpus that slurm could allocate"
HOST = frozenset({"mount /", "interface lo", "interface eth0"})
SAID = Attachment(name="sinfo", content="node01 idle")
FIGURE = Measurement(
    metric="registry.visibility", value=0.2, unit="s", limit="at most 5 s", where="local.yaml:1", verdict="ok"
)


def result(check: str, verdict: Verdict = Verdict.PASSED, reason: str = "", seconds: float = 1.0) -> CheckResult:
    found = CheckResult(
        nodeid=f"{FILE}::test_{check.lower().replace('-', '_')}",
        verdict=verdict,
        ids=(check,),
        reason=reason,
        started=STARTED + 2,
        seconds=seconds,
        attachments=(SAID,) if verdict.executed else (),
    )
    return found.model_copy(update={"measurements": (FIGURE,)}) if check == "STO-31" else found


GOOD = (result("SLU-08"), result("SLU-12"), result("STO-31"))
FEWER = (result("SLU-08"), result("SLU-31", Verdict.NOT_APPLICABLE, f"not applicable: {GPU}"))


def run(
    results: Sequence[CheckResult] = GOOD,
    folder: Path = Path("reports"),
    lacks: frozenset[str] = frozenset(),
    ended: float = 5.0,
) -> NestedRun:
    """A run as `run_all` gives it, with these results."""
    circumstances = Run(
        id="r1",
        cluster="nested-a1b2",
        started=STARTED,
        ended=STARTED + ended,
        absent=tuple(Absent(name=name, reason="no gpus that slurm could allocate") for name in sorted(lacks)),
    )
    catalogue = load_catalogue()
    return NestedRun(
        profile=Profile("no gpu" if lacks else "one gpu", load_config("local"), lacks),
        result=Result(("pytest",), 0, "3 passed"),
        report=assemble(circumstances, results, rows_of(catalogue), titles=catalogue.tasks),
        folder=folder,
        started=STARTED,
        before=HOST,
        after=HOST,
    )


def nested(first: NestedRun | None = None, second: NestedRun | None = None, fewer: NestedRun | None = None) -> Nested:
    return Nested(first or run(), second or run(), (fewer or run(FEWER, lacks=frozenset({"gpu"})),))


@pytest.mark.seen_to_fail("E2E-16")
@pytest.mark.parametrize(
    ("results", "message"),
    [
        ((*GOOD, result("STO-30", Verdict.FAILED, "controller: no tree")), "nested-a1b2: .*1 of 4 checks failed"),
        ((*GOOD, result("STO-30", Verdict.BROKEN, "controller: no ssh")), "1 of 4 checks have no answer"),
        ((), "no check was executed"),
        ((result("SLU-31", Verdict.NOT_APPLICABLE, GPU),), "no check was executed"),
    ],
)
def test_a_cold_start_that_is_not_all_green_is_red(
    evidence: Evidence, measure: Measurements, results: Sequence[CheckResult], message: str
) -> None:
    task044.test_from_nothing_to_all_green(run(), evidence, measure)
    assert [(item.metric, item.value) for item in measure.items] == [("cluster.bring_up", 3), ("cluster.all_green", 3)]
    with pytest.raises(AssertionError, match=message):
        task044.test_from_nothing_to_all_green(run(results), evidence, measure)


@pytest.mark.seen_to_fail("E2E-16")
def test_a_cold_start_of_an_hour_is_red(evidence: Evidence, measure: Measurements) -> None:
    late = run((*GOOD, result("STO-30", seconds=3600)))
    with pytest.raises(LimitExceeded, match=r"cluster\.all_green is 3602 s, expected at most 2700 s"):
        task044.test_from_nothing_to_all_green(late, evidence, measure)


@pytest.mark.seen_to_fail("E2E-18")
@pytest.mark.parametrize(
    ("second", "message"),
    [
        ((*GOOD[:2], result("STO-31", Verdict.FAILED, "late")), r"test_sto_31: passed, then failed \(and 0 more\)"),
        (GOOD[1:], "test_slu_08: passed, then not run"),
        ((*GOOD, result("STO-30")), "test_sto_30: not run, then passed"),
        ((), "test_slu_08: passed, then not run"),
    ],
)
def test_runs_that_differ_are_red(evidence: Evidence, second: Sequence[CheckResult], message: str) -> None:
    task044.test_two_runs_say_the_same(nested(), evidence)
    with pytest.raises(AssertionError, match=message):
        task044.test_two_runs_say_the_same(nested(second=run(second)), evidence)


@pytest.mark.seen_to_fail("E2E-18")
def test_two_runs_that_ran_nothing_are_red(no_evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match="no check was executed; nothing to compare"):
        task044.test_two_runs_say_the_same(nested(run(()), run(())), no_evidence)


@pytest.mark.seen_to_fail("E2E-18")
def test_a_second_run_that_could_not_take_its_cluster_down_is_red(evidence: Evidence) -> None:
    undecided = run()
    troubled = undecided.report.model_copy(update={"verdict": "undecided"})
    with pytest.raises(AssertionError, match="run r1: verdict undecided, expected fit"):
        task044.test_two_runs_say_the_same(nested(second=replace(undecided, report=troubled)), evidence)


@pytest.mark.seen_to_fail("E2E-19")
@pytest.mark.parametrize(
    ("after", "message"),
    [
        (HOST | {"interface vb-1"}, "localhost: after a run with no gpu: interface vb-1 was left behind; expected"),
        (HOST | {"process 7 (systemd-nspawn)"}, r"process 7 \(systemd-nspawn\) was left behind"),
        (HOST - {"mount /"}, "mount / is gone"),
    ],
)
def test_a_host_that_changed_is_red(
    evidence: Evidence, measure: Measurements, after: frozenset[str], message: str
) -> None:
    task044.test_the_host_is_as_before(nested(), evidence, measure)
    assert [item.value for item in measure.items] == [2, 2, 2]
    fewer = replace(run(FEWER, lacks=frozenset({"gpu"})), after=after)
    with pytest.raises(AssertionError, match=message):
        task044.test_the_host_is_as_before(nested(fewer=fewer), evidence, measure)


@pytest.mark.seen_to_fail("E2E-19")
def test_a_slow_take_down_and_an_empty_inventory_are_red(evidence: Evidence, measure: Measurements) -> None:
    with pytest.raises(LimitExceeded, match=r"cluster\.take_down is 97 s, expected at most 60 s"):
        task044.test_the_host_is_as_before(nested(run(ended=100)), evidence, measure)
    with pytest.raises(AssertionError, match="the inventory before the run is empty"):
        task044.test_the_host_is_as_before(nested(replace(run(), before=frozenset())), evidence, measure)


# reports


def written(folder: Path, results: Sequence[CheckResult] = GOOD) -> NestedRun:
    found = run(results, folder)
    for write in (write_json, write_junit, write_allure):
        write(found.report, folder)
    return found


def no_junit(folder: Path) -> None:
    (folder / "junit.xml").unlink()


def junit_without(text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "junit.xml"
        assert text in file.read_text()
        other = 'value="x"' if "=" in text else "x"
        file.write_text(file.read_text().replace(text, other))

    return spoil


def allure_without(key: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for file in (folder / "allure").glob("*-result.json"):
            data = json.loads(file.read_text())
            file.write_text(json.dumps({**data, key: []}))

    return spoil


def no_allure(folder: Path) -> None:
    for file in (folder / "allure").glob("*-result.json"):
        file.unlink()


def no_attachments(folder: Path) -> None:
    for file in (folder / "allure").glob("*-attachment*"):
        file.unlink()


@pytest.mark.seen_to_fail("E2E-20")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_junit, r"junit\.xml: was not written"),
        (junit_without("test_slu_12"), r"junit\.xml: has no test case of SLU-12"),
        (junit_without('value="SLU-12"'), "SLU-12 lacks property check=SLU-12"),
        (junit_without('value="TASK-042"'), "SLU-08 lacks property task=TASK-042"),
        (junit_without("at most 5 s"), r"STO-31 lacks the threshold of registry\.visibility \(at most 5 s\)"),
        (junit_without("sinfo ("), "SLU-08 does not list its evidence 'sinfo'"),
        (no_allure, "allure: has no result of SLU-08"),
        (allure_without("labels"), "SLU-08 lacks label feature=TASK-042"),
        (allure_without("parameters"), r"allure: STO-31 lacks the threshold of registry\.visibility"),
        (allure_without("attachments"), "SLU-08 has 0 attachments, expected 1"),
        (no_attachments, "the attachment .* was not written"),
    ],
)
def test_reports_that_lack_something_are_red(
    evidence: Evidence, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    first = written(tmp_path)
    task044.test_reports_carry_what_they_must(first, evidence)
    spoil(tmp_path)
    with pytest.raises(AssertionError, match=message):
        task044.test_reports_carry_what_they_must(first, evidence)


@pytest.mark.seen_to_fail("E2E-20")
def test_reports_of_nothing_are_red(evidence: Evidence, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no check was executed; its reports show nothing"):
        task044.test_reports_carry_what_they_must(written(tmp_path / "a", ()), evidence)
    with pytest.raises(AssertionError, match="no check measured; no threshold is shown"):
        task044.test_reports_carry_what_they_must(written(tmp_path / "b", GOOD[:1]), evidence)
    bare = GOOD[0].model_copy(update={"attachments": ()})
    with pytest.raises(AssertionError, match="SLU-08 has no evidence"):
        task044.test_reports_carry_what_they_must(written(tmp_path / "c", (bare, GOOD[2])), evidence)


# degraded profiles


@pytest.mark.seen_to_fail("E2E-22")
@pytest.mark.parametrize(
    ("results", "message"),
    [
        ((GOOD[0], result("SLU-31")), "no gpu: SLU-31 is passed, but needs gpu, which is absent"),
        ((GOOD[0], result("SLU-31", Verdict.BROKEN, "IndexError")), "SLU-31 is broken, but needs gpu"),
        ((GOOD[0], result("SLU-12", Verdict.BROKEN, "IndexError")), "SLU-12 is broken: IndexError; expected passed"),
        ((GOOD[0], result("SLU-12", Verdict.BLOCKED, "gate")), "SLU-12 is blocked: gate"),
        ((GOOD[0], result("SLU-12", Verdict.NOT_APPLICABLE, "not now")), "names no absent capability: not now"),
        ((GOOD[0], result("SLU-12", Verdict.NOT_APPLICABLE)), "names no absent capability: no reason given"),
        (FEWER[1:], "no check passed: all that is left out proves nothing"),
        ((), "no gpu: no check was collected; nothing was judged"),
    ],
)
def test_wrong_skips_are_red(evidence: Evidence, results: Sequence[CheckResult], message: str) -> None:
    task044.test_degraded_profiles(nested(), evidence)
    with pytest.raises(AssertionError, match=message):
        task044.test_degraded_profiles(nested(fewer=run(results, lacks=frozenset({"gpu"}))), evidence)


@pytest.mark.seen_to_fail("E2E-22")
def test_a_profile_that_is_not_degraded_is_red(evidence: Evidence) -> None:
    whole = run()
    profile = Profile("no gpu", whole.profile.config, frozenset({"gpu"}))
    with pytest.raises(AssertionError, match="no gpu: gpu is not declared absent in the report"):
        task044.test_degraded_profiles(nested(fewer=replace(whole, profile=profile)), evidence)


# completeness


def rows(*results: CheckResult) -> tuple[RowState, ...]:
    states = row_states(results, rows_of(load_catalogue()), {})
    return tuple(state for state in states if state.verdict is not Verdict.MISSING)


@pytest.mark.seen_to_fail("E2E-17")
def test_a_run_that_is_not_complete_is_red(evidence: Evidence, measure: Measurements) -> None:
    task044.test_completeness(rows(*GOOD, FEWER[1]), evidence, measure)
    assert [(item.metric, item.value) for item in measure.items] == [("suite.passed", 100), ("suite.executed", 100)]
    failed = result("SLU-12", Verdict.FAILED, "node02: no answer")
    with pytest.raises(AssertionError, match=r"SLU-12: node02: no answer \(and 0 more blocking failures\)"):
        task044.test_completeness(rows(GOOD[0], failed), evidence, measure)
    with pytest.raises(AssertionError, match="no other check was selected"):
        task044.test_completeness((), evidence, measure)


@pytest.mark.seen_to_fail("E2E-17")
def test_less_than_95_per_cent_is_red(evidence: Evidence, measure: Measurements) -> None:
    catalogue = load_catalogue()
    default = [check.id for check in catalogue.values() if check.severity == "default"][:20]
    nineteen = [result(check) for check in default[1:]]
    task044.test_completeness(rows(result(default[0], Verdict.FAILED), *nineteen), evidence, measure)
    with pytest.raises(LimitExceeded, match=r"suite\.passed is 94\.\d+ %, expected at least 95 %"):
        task044.test_completeness(rows(result(default[0], Verdict.FAILED), *nineteen[:17]), evidence, measure)


@pytest.mark.seen_to_fail("E2E-17")
@pytest.mark.parametrize("verdict", [Verdict.BROKEN, Verdict.BLOCKED, Verdict.NO_EVIDENCE])
def test_a_row_without_an_answer_leaves_the_run_undecided(
    evidence: Evidence, measure: Measurements, verdict: Verdict
) -> None:
    """Red, but no claim about the cluster: not an assertion."""
    with pytest.raises(AiHowError, match=r"^this run: suite\.executed is 75 %, expected at least 100 %.*: STO-30"):
        task044.test_completeness(rows(*GOOD, result("STO-30", verdict, "why")), evidence, measure)
