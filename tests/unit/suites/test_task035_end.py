"""The checks of a cluster's end go red on ends that went wrong in the way that the check is about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from suites.phase4 import test_task035_end as task035
from suites.phase4._small import OFF, ON

from .task035_fakes import ENTRIES, FACTS, HALF, HOST, end, failure, half, interrupted, said, stop


@pytest.mark.seen_to_fail("PRV-15")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "running"}, "controller: is running after the stop, expected off"),
        ({"said": ""}, "controller: its services were not stopped in order: on its disk is ''"),
        ({"kept": False}, "controller: a file written before the stop is not there after the start"),
        ({"began": "off"}, "controller: is off after the start, expected running"),
    ],
)
def test_a_machine_that_was_cut_off_is_red(
    evidence: Evidence, measure: Measurements, changes: dict[str, object], message: str
) -> None:
    task035.test_graceful_stop(stop(), evidence, measure)
    assert [item.metric for item in measure.items] == ["cluster.stop"]
    with pytest.raises(AssertionError, match=message):
        task035.test_graceful_stop(stop(**changes), evidence, measure)


@pytest.mark.seen_to_fail("PRV-15")
def test_a_slow_stop_is_red(evidence: Evidence, measure: Measurements) -> None:
    with pytest.raises(LimitExceeded, match=r"cluster\.stop is 61 s, expected at most 60 s"):
        task035.test_graceful_stop(stop(seconds=61.0), evidence, measure)


@pytest.mark.seen_to_fail("PRV-16")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"after": HOST | {"mount /state/life/root"}}, "mount /state/life/root was left behind; expected the host as"),
        ({"after": HOST | {"claim on 0000:01:00.0 by x"}}, "claim on 0000:01:00.0 by x was left behind"),
        ({"after": HOST - {"interface lo"}}, "interface lo is gone; expected the host as before"),
        ({"during": HOST}, "the inventory did not change when the cluster came up; nothing would be found"),
        ({"result": said("", 1)}, "`down` exited with 1, expected 0"),
        ({"witnesses": {}}, "nothing that is not ours was there; nothing was put to the test"),
        ({"witnesses": {"machine": ("process 7", "gone")}}, "machine that is not ours: gone, expected untouched"),
    ],
)
def test_a_destroyed_cluster_that_leaves_or_takes_something_is_red(
    evidence: Evidence, changes: dict[str, object], message: str
) -> None:
    task035.test_destroy_leaves_nothing(end(), evidence)
    with pytest.raises(AssertionError, match=message):
        task035.test_destroy_leaves_nothing(end(**changes), evidence)


@pytest.mark.seen_to_fail("PRV-14")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"result": said("1 passed")}, "the run passed although a machine was made to fail; nothing was injected"),
        ({"result": said("broken: no image", 1)}, "the run does not name node01, which was made to fail"),
        ({"after": HOST | {"interface ah-life"}}, "after the failure: interface ah-life was left behind"),
    ],
)
def test_a_failure_that_is_not_rolled_back_is_red(evidence: Evidence, changes: dict[str, object], message: str) -> None:
    task035.test_partial_failure_is_rolled_back(failure(), evidence)
    with pytest.raises(AssertionError, match=message):
        task035.test_partial_failure_is_rolled_back(failure(**changes), evidence)


NOT_USED_AGAIN = replace(FACTS, boots={ON: "boot 77"})


@pytest.mark.seen_to_fail("PRV-24")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"next": said("", 1)}, "killed while testing: the next start exited with 1, expected 0"),
        (
            {"next": said("cluster life is up")},
            "killed while testing: the next start does not say that the cluster was",
        ),
        ({"after": NOT_USED_AGAIN}, "a whole cluster was not used as it was: controller was started anew"),
        ({"after": replace(FACTS, entries=ENTRIES * 2)}, "killed while testing: there twice: bridge name=ah-life"),
        (
            {"before": replace(FACTS, entries=())},
            "killed while testing: the journal names nothing; nothing was interrupted",
        ),
    ],
)
def test_a_whole_cluster_that_is_not_used_again_is_red(
    evidence: Evidence, changes: dict[str, object], message: str
) -> None:
    task035.test_interrupted_runs(interrupted(), half(), evidence)
    with pytest.raises(AssertionError, match=message):
        task035.test_interrupted_runs(interrupted(**changes), half(), evidence)


@pytest.mark.seen_to_fail("PRV-24")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"next": said("", 2)}, "killed while making: the next start exited with 2, expected 0"),
        ({"next": said("cluster life was up already (1 s)")}, "killed while making: the next start does not say"),
        ({"after": replace(FACTS, machines={ON: "running", OFF: "absent"})}, "expected controller running and node01"),
        (
            {"after": replace(FACTS, processes=HALF.processes)},
            r"process 61 \(systemd\) of the half-made cluster is there",
        ),
        ({"after": replace(FACTS, entries=ENTRIES[1:])}, r"was made anew has \['mount', 'process'\], expected"),
        ({"before": replace(HALF, entries=())}, "killed while making: the journal names nothing"),
    ],
)
def test_a_half_made_cluster_that_is_not_made_anew_is_red(
    evidence: Evidence, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        task035.test_interrupted_runs(interrupted(), half(**changes), evidence)
