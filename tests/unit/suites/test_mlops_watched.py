"""What monitoring must have of a job's GPUs. No machine of ours has DCGM: its answers are as documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.monitoring import Dcgm
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.report.evidence import Evidence
from suites.mlops._trained import Trained
from suites.mlops.distributed import _watched
from suites.mlops.distributed import test_distributed as checks
from tests.unit.suites.mlops_fakes import Ranks, ddp, mnist, ranks, runs

from .monitoring_fakes import Answer, monitoring, said

UUIDS = ("604ac76c-d9cf-fef3-62e9-d92044ab6e52", "0f1d2c3b-aaaa-bbbb-cccc-d92044ab6e53")
ADDRESSES = {"node01": "10.78.0.11:9400", "node02": "10.78.0.12:9400"}
BLANK = "9223372036854775794"
#: Both jobs were there from 1795449001 to 1795449091, and Prometheus scrapes each 2 s.
QUERY = "9090/api/v1/query?query=DCGM_FI_DEV_GPU_UTIL[92s] @ 1795449093"
TARGETS = "9090/api/v1/targets?state=active"
#: The machine and the values of each GPU.
Seen = Mapping[str, tuple[str, list[str]]]
ALONE: Seen = {UUIDS[0]: ("node01", ["0", "91"]), UUIDS[1]: ("node01", ["0", "88"])}
APART: Seen = {UUIDS[0]: ("node01", ["0", "91"]), UUIDS[1]: ("node02", ["0", "88"])}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for = _watched.wait_for
    monkeypatch.setattr(_watched, "wait_for", lambda probe, **how: wait_for(probe, **how | {"within": Deadline(0.05)}))


def on(*gpus: str) -> Callable[[Ranks], None]:
    """Each process tells of its GPU, as PyTorch calls it."""

    def edit(found: Ranks) -> None:
        for one, gpu in zip(found, gpus, strict=True):
            one["gpu"] = gpu

    return edit


def prometheus(seen: Seen) -> dict[str, Answer]:
    """What Prometheus says of two dcgm-exporters, and of the GPUs of their machines."""
    labels = {node: {"job": "dcgm", "instance": address} for node, address in ADDRESSES.items()}
    targets = [
        {"labels": labels[node], "scrapeUrl": f"http://{address}/metrics", "health": "up", "lastError": "",
         "scrapeInterval": "2s"} for node, address in ADDRESSES.items()
    ]  # fmt: skip
    series = [
        {"metric": labels[node] | {"UUID": f"GPU-{uuid}"},
         "values": [[1795449001.5 + 2 * at, value] for at, value in enumerate(values)]}
        for uuid, (node, values) in seen.items()
    ]  # fmt: skip
    return {
        TARGETS: said({"data": {"activeTargets": targets}}),
        QUERY: said({"data": {"resultType": "matrix", "result": series}}),
    }


def check(
    evidence: Evidence,
    alone: Trained,
    apart: Trained,
    one: Mapping[str, Answer],
    two: Mapping[str, Answer] | None = None,
) -> None:
    """The check over two jobs: the first on one machine, the second on two, half a day later."""
    config = load_config("local", environ={})
    config = config.model_copy(update={"monitoring": config.monitoring.model_copy(update={"dcgm": Dcgm()})})
    later = replace(apart, ended=replace(apart.ended, started=apart.ended.started + 7, ended=apart.ended.ended + 7))
    answers = dict(one)
    answers[QUERY.replace("1795449093", "1795449100")] = (two or prometheus(APART))[QUERY]
    checks.test_monitoring(runs(evidence, {"ddp": alone, "ddp-mnist": later}), monitoring(answers, config), evidence)


def jobs(first: tuple[str, ...] = UUIDS) -> tuple[Trained, Trained]:
    return ddp(ranks_text=ranks(on(*first))), mnist(ranks_text=ranks(on(*UUIDS), "ddp-mnist"))


def test_both_gpus_of_both_jobs_are_seen(evidence: Evidence) -> None:
    check(evidence, *jobs(), prometheus(ALONE))
    told = {one.name: one.content for one in evidence.items}
    assert told[f"DCGM_FI_DEV_GPU_UTIL of GPU-{UUIDS[0]} during job 7"] == "2 samples: [0.0, 91.0]"
    assert f"DCGM_FI_DEV_GPU_UTIL of GPU-{UUIDS[1]} during job 9" in told


@pytest.mark.seen_to_fail("TR2-15")
@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (
            {UUIDS[0]: ALONE[UUIDS[0]]},
            rf"Prometheus holds no DCGM_FI_DEV_GPU_UTIL of GPU-{UUIDS[1]} from the time of the job "
            r"\(DCGM_FI_DEV_GPU_UTIL\[92s\] @ 1795449093\); expected one each 2 s; do: see INF-35 and INF-36",
        ),
        ({UUIDS[0]: ALONE[UUIDS[0]], "0": ("node01", ["50"])}, rf"Prometheus holds no .* of GPU-{UUIDS[1]}"),
        (APART, rf"Prometheus holds no DCGM_FI_DEV_GPU_UTIL of GPU-{UUIDS[1]} from"),
        (
            {**ALONE, UUIDS[1]: ("node01", ["0", BLANK])},
            rf"DCGM_FI_DEV_GPU_UTIL of GPU-{UUIDS[1]} was 9\.22337e\+18, which can't be; do: see INF-35",
        ),
    ],
)
def test_a_gpu_that_monitoring_does_not_see(seen: Seen, message: str, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=rf"^node01: job 7 \(ddp\): {message}"):
        check(evidence, *jobs(), prometheus(seen))


@pytest.mark.seen_to_fail("TR2-15")
def test_a_job_of_which_monitoring_says_nothing(evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=rf"^node01,node02: job 9 \(ddp-mnist\): Prometheus holds no .*{UUIDS[0]}"):
        check(evidence, *jobs(), prometheus(ALONE), prometheus({}))
    with pytest.raises(AssertionError, match=r"^controller: http.*/query answers with 503: no\n  expected: status 200"):
        check(evidence, *jobs(), {**prometheus(ALONE), QUERY: said("no", 503)})
    for gpus, known in ((("", ""), "0 GPUs \\(none\\)"), ((UUIDS[0], UUIDS[0]), f"1 GPUs \\(GPU-{UUIDS[0]}\\)")):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(ddp\): its processes tell of {known}, expected 2"):
            check(evidence, *jobs(gpus), prometheus(ALONE))


def test_each_part_of_the_row_asks_for_what_it_needs() -> None:
    """Without an accounting monitoring is still asked, and the other way round."""
    parts: dict[str, set[Any]] = {
        test.__name__: {name for mark in test.pytestmark if mark.name == "requires" for name in mark.args}
        for test in (checks.test_accounting, checks.test_monitoring)
    }
    assert parts == {
        "test_accounting": {"slurm", "accounting"},
        "test_monitoring": {"gpu.real", "dcgm", "monitoring"},
    }
    assert not parts["test_accounting"] & set(load_catalogue()["TR2-15"].requires)
