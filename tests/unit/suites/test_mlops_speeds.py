"""How much faster two processes are than one: judged on GPUs, at the size of the plan; recorded elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from suites.mlops.distributed import test_distributed as checks
from suites.mlops.distributed._run import Runs
from tests.unit.suites.mlops_fakes import Edit, alone, ddp, faster, metric, on_gpus, rate_of, runs, scale
from tests.unit.suites.task042_fakes import new_measure


@pytest.mark.seen_to_fail("TR2-07")
def test_no_speed_up(evidence: Evidence) -> None:
    def run(factor: float, size: str = "full") -> float:
        wanted = faster(factor * rate_of(alone()) / rate_of(ddp()))
        measure = new_measure()
        found = runs(evidence, {"ddp": on_gpus(ddp(wanted)), "ddp-alone": on_gpus(alone())})
        checks.test_speed_up(replace(found, scale=scale(size)), measure)
        return measure.items[-1].value

    assert run(1.8) == pytest.approx(1.8, rel=0.01)
    with pytest.raises(
        AssertionError,
        match=r"configs/limits/local\.yaml:\d+: distributed\.speed_up\.gpu\.smoke has no gate, so nothing would be "
        r"judged; expected a gate; do: --scale=full, or write one there \(TR2-04, recorded: GPUs that have",
    ):
        run(1.8, "smoke")
    with pytest.raises(LimitExceeded, match=r"^node01: distributed\.speed_up\.gpu\.full is 1\.\d+ fraction, expected"):
        run(1.3)


@pytest.mark.seen_to_fail("TR2-07")
@pytest.mark.parametrize(
    ("two", "one", "message"),
    [
        (None, metric(samples=720), r"node01: job 7 \(ddp\): has samples 1440, .* 720; the same work is expected"),
        (None, metric(batch=64), r"node01: job 7 \(ddp\): has batch 32, .* 64; the same work"),
        (None, metric(device="H100"), r"node01: job 7 \(ddp\): has device 'cpu', .* 'H100'; the same work"),
        (metric(processes=1), None, r"node01: job 7 \(ddp\): 1 processes against 1, expected 2 against 1"),
    ],
)
def test_another_workload_is_no_speed_up(two: Edit | None, one: Edit | None, message: str, evidence: Evidence) -> None:
    found = runs(evidence, {"ddp": ddp(two), "ddp-alone": alone(one)})
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_speed_up(replace(found, scale=scale("full")), new_measure())


@pytest.mark.seen_to_fail("TR2-07", "TR2-12")
def test_a_speed_up_of_cpus_is_none_of_gpus(evidence: Evidence) -> None:
    found = replace(runs(evidence, real=True), scale=scale("full"))
    for check in (checks.test_speed_up, checks.test_efficiency):
        with pytest.raises(
            AssertionError, match=r"^node01: both trainings were done by CPUs; expected GPUs; do: see tha"
        ):
            check(found, new_measure())


@pytest.mark.seen_to_fail("TR2-04")
def test_what_no_gate_judges_is_recorded_by_the_check_of_time(evidence: Evidence) -> None:
    def recorded(found: Runs) -> dict[str, tuple[float, str]]:
        measure = new_measure()
        checks.test_time(found, evidence, measure)
        return {one.metric: (one.value, one.verdict) for one in measure.items}

    on_cpus = recorded(runs(evidence))
    factor, verdict = on_cpus["distributed.speed_up.cpu"]
    assert (factor, verdict) == (pytest.approx(rate_of(ddp()) / rate_of(alone())), "recorded")
    assert on_cpus["distributed.efficiency.cpu"][0] == pytest.approx(factor / 2)
    assert {"distributed.rate.alone", "distributed.rate.together"} < on_cpus.keys()
    watched = {0: "GPU-0, 7, 4210, 81559\n", 1: "GPU-1, 9, 4210, 81559\n"}
    busy = {"ddp": on_gpus(ddp(gpus=watched)), "ddp-alone": on_gpus(alone())}
    small = recorded(runs(evidence, busy, real=True))
    assert small["distributed.gpu.utilisation.smoke"] == (9, "recorded")
    assert small["distributed.speed_up.gpu.smoke"] == (factor, "recorded")
    full = recorded(replace(runs(evidence, busy, real=True), scale=scale("full")))
    assert full.keys() == {"distributed.seconds.full"}, "other checks judge the rest"
    other = runs(evidence, {"ddp-alone": alone(metric(samples=720))})
    with pytest.raises(
        AssertionError, match=r"^node01: job 7 \(ddp\): has samples 1440, .* 720; the same work is expec"
    ):
        recorded(other)


@pytest.mark.seen_to_fail("TR2-12")
def test_processes_that_wait_for_each_other(evidence: Evidence) -> None:
    measure = new_measure()
    fast = {"ddp": on_gpus(ddp(faster(1.8 * rate_of(alone()) / rate_of(ddp())))), "ddp-alone": on_gpus(alone())}
    checks.test_efficiency(replace(runs(evidence, fast), scale=scale("full")), measure)
    assert measure.items[-1].value == pytest.approx(0.9)
    slow = {"ddp": on_gpus(ddp()), "ddp-alone": on_gpus(alone())}
    with pytest.raises(
        LimitExceeded, match=r"^node01: distributed\.efficiency\.gpu\.full is 0\.\d+ fraction, expected at least"
    ):
        checks.test_efficiency(replace(runs(evidence, slow), scale=scale("full")), new_measure())
    with pytest.raises(
        AssertionError, match=r"distributed\.efficiency\.gpu\.smoke has no gate, so nothing would be judged"
    ):
        checks.test_efficiency(runs(evidence, fast), new_measure())
