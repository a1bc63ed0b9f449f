"""Tests that judge the run itself come last, and see what all others came to."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.report.model import CheckResult, Verdict
from pytest_ai_how.skin.outcomes import Outcomes
from pytest_ai_how.skin.results import Collection, Selected

from .conftest import Site

CLOSING = """
@pytest.mark.check("E2E-17")
@pytest.mark.closing
def test_closing(other_rows, evidence):
    evidence.attach("rows", str(other_rows))
    assert False, " ".join(f"{one.row.id}={one.verdict.value}" for one in other_rows)
"""
OTHERS = """
@pytest.mark.check("SLU-12")
def test_good(evidence):
    evidence.attach("seen", "x")

@pytest.mark.check("SLU-13")
@pytest.mark.exclusive
def test_bad(evidence):
    time.sleep(1)
    assert False, "node01: no"

@pytest.mark.check("SLU-44")
def test_disruptive(cluster, evidence):
    time.sleep(0.5)
    evidence.attach("seen", "x")
"""


@pytest.mark.parametrize("workers", ["0", "3"])
def test_it_sees_what_all_others_came_to(site: Site, workers: str) -> None:
    site.test(CLOSING + OTHERS)
    found = site.run("-n", workers)
    assert found.reason("test_closing").startswith("SLU-12=passed SLU-13=failed SLU-44=passed"), found.text
    [closing] = [one for one in found.report["results"] if one["nodeid"].endswith("::test_closing")]
    # It may begin to wait before another begins, but it ends after all.
    ends = [one["started"] + one["seconds"] for one in found.report["results"]]
    assert closing["started"] + closing["seconds"] == max(ends)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_knows_when_something_was_broken_on_purpose(site: Site, workers: str) -> None:
    site.test(
        OTHERS + "@pytest.mark.disruptive\ndef test_marked(evidence):\n    time.sleep(0.3)\n"
        '@pytest.mark.check("SLU-51")\n@pytest.mark.closing\ndef test_closing(broken_times, run_started, evidence):\n'
        "    evidence.attach('seen', 'x')\n"
        "    names = sorted(name.partition('::')[2] for _, _, name in broken_times)\n"
        "    late = all(run_started <= start <= end - 0.2 for start, end, _ in broken_times)\n"
        "    assert False, f'{names} {late} {time.time() - run_started < 60}'\n"
    )
    found = site.run("-n", workers)
    assert found.reason("test_closing").startswith("['test_disruptive', 'test_marked'] True True"), found.text


def test_it_hears_of_a_test_whose_worker_died(site: Site) -> None:
    site.test(CLOSING + '@pytest.mark.check("SLU-12")\ndef test_death():\n    os.kill(os.getpid(), signal.SIGKILL)\n')
    found = site.run("-n2")
    assert found.reason("test_closing").startswith("SLU-12=broken"), found.text


@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_does_not_wait_for_what_nobody_runs(site: Site, workers: str) -> None:
    """With -x, a worker drops what it had been given."""
    site.test(
        CLOSING + "def test_bad():\n    time.sleep(1)\n    assert False\ndef test_a(): pass\ndef test_b(): pass\n"
    )
    found = site.run("-n", workers, "-x")
    assert found.verdicts["test_closing"] == "blocked"
    assert found.reason("test_closing").startswith("blocked: the run ended before ")


def test_a_test_that_does_not_come_last_can_not_have_it(site: Site) -> None:
    site.test('@pytest.mark.check("E2E-17")\ndef test_it(other_rows):\n    pass\n')
    found = site.run()
    assert found.verdicts == {"test_it": "broken"}
    assert "asks for 'other_rows'\n  do: mark the test with @pytest.mark.closing" in found.reason("test_it")


def test_checks_are_selected_by_their_identifiers(site: Site) -> None:
    site.test(OTHERS)
    assert site.run("-k", "SLU-12 or slu-13").verdicts == {"test_good": "passed", "test_bad": "failed"}


def test_one_that_never_ends_is_named(tmp_path: Path) -> None:
    selected = {name: Selected(name, ("SLU-12",), "") for name in ("a", "b", "closing", "after")}
    Collection(selected, {}).write(tmp_path)
    outcomes, other = Outcomes(tmp_path), Outcomes(tmp_path)
    for one in (outcomes, other):
        one.begin()
    outcomes.note("a", CheckResult(nodeid="a", verdict=Verdict.PASSED, ids=("SLU-12",)))
    with pytest.raises(
        DeadlineExceeded, match=r"^this run: not through with all other tests within 0 s; .*still open: b\n"
    ):
        outcomes.before("closing", within=0)
    outcomes.note("b", CheckResult(nodeid="b", verdict=Verdict.FAILED))
    assert [one.verdict for one in outcomes.before("closing", within=0)] == [Verdict.PASSED, Verdict.FAILED]
