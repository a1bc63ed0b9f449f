"""The checks of DCGM go red. No machine of ours has it: the answers have the form of its documentation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.facts import Readings
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.shell import Result
from suites.phase1 import test_dcgm as checks
from tests.fakes import Script, fake_cluster

from .monitoring_fakes import monitoring, said

BLANK = "9223372036854775794"


def site() -> ClusterConfig:
    return load_config("site", environ={"HOME": "/root"})


def discovery(*numbers: int) -> str:
    rows = "".join(f"| {n} | Name: NVIDIA A100 |\n|   | Device UUID: GPU-604ac7{n} |\n" for n in numbers)
    return f"{len(numbers)} GPUs found.\n+--------+\n{rows}0 NvSwitches found.\n"


def exported(**changes: str) -> str:
    values = {"GPU_UTIL": "0", "FB_USED": "451", "GPU_TEMP": "31", "POWER_USAGE": "52.1"} | changes
    return "".join(f'DCGM_FI_DEV_{name}{{gpu="0",UUID="GPU-604ac7",device="nvidia0"}} {value}\n'
                   for name, value in values.items() if value)  # fmt: skip


def with_exporters(broken: str) -> Cluster:
    whole = f"{exported()}\n200"
    scripts = {"compute-01": {"curl": whole}, "compute-02": {"curl": broken}}
    return fake_cluster(scripts, config=site())


@pytest.mark.seen_to_fail("INF-34")
def test_a_gpu_that_dcgm_does_not_find() -> None:
    def check(second: str) -> None:
        config, evidence = site(), Evidence()
        told = {"compute-01": {checks.DISCOVERED: discovery(0)}, "compute-02": {checks.DISCOVERED: second}}
        checks.test_all_gpus_are_found(fake_cluster({}, config=config), Facts(Readings.told(told), evidence))
        assert evidence.samples

    check(discovery(1))
    with pytest.raises(AssertionError, match=r"^compute-02: DCGM finds 0 GPUs \(none\), expected 1; compare"):
        check(discovery())
    with pytest.raises(AssertionError, match=r"^local: no machine that runs has a real GPU; nothing was checked"):
        checks.with_gpus(fake_cluster({}))


@pytest.mark.seen_to_fail("INF-35")
def test_an_exporter_that_tells_nothing_or_nonsense() -> None:
    def check(text: str, status: int = 200) -> None:
        evidence = Evidence()
        checks.test_exporter(with_exporters(f"{text}\n{status}"), evidence)
        assert evidence.samples

    check(exported())
    with pytest.raises(AssertionError, match=r"^compute-02: DCGM_FI_DEV_GPU_TEMP is of 0 GPUs \(temperature\), expect"):
        check(exported(GPU_TEMP=""))
    with pytest.raises(AssertionError, match=r"^compute-02: DCGM_FI_DEV_FB_USED of GPU-604ac7 is 9\.22337e\+18, which"):
        check(exported(FB_USED=BLANK))
    with pytest.raises(AssertionError, match=r"^compute-02: DCGM_FI_DEV_GPU_UTIL of GPU-604ac7 is 101, which can't be"):
        check(exported(GPU_UTIL="101"))
    with pytest.raises(AssertionError, match=r"^compute-02: dcgm-exporter, http.*:9400/metrics, answers with 503"):
        check("", 503)


@pytest.mark.seen_to_fail("INF-36")
def test_a_gpu_that_prometheus_does_not_know() -> None:
    config = site()
    addresses = {node.name: f"{node.address}:9400" for node in config.nodes}

    def check(*known: str) -> None:
        labels = {node: {"job": "dcgm", "instance": addresses[node]} for node in known}
        targets = [
            {"labels": labels[n], "scrapeUrl": f"http://{addresses[n]}/metrics", "health": "up", "lastError": "",
             "scrapeInterval": "15s"} for n in known
        ]  # fmt: skip
        series = [{"metric": labels[n] | {"UUID": f"GPU-{n}"}, "value": [1795726668.5, "0"]} for n in known]
        answers = {
            "9090/api/v1/targets?state=active": said({"data": {"activeTargets": targets}}),
            "9090/api/v1/query?query=DCGM_FI_DEV_GPU_UTIL": said({"data": {"resultType": "vector", "result": series}}),
        }
        watched = monitoring(answers, config)
        checks.test_prometheus_knows_all_gpus(watched, watched.cluster, Evidence())

    check("compute-01", "compute-02")
    with pytest.raises(
        AssertionError, match=r"^compute-02: Prometheus holds DCGM_FI_DEV_GPU_UTIL of 0 GPUs, expected 1"
    ):
        check("compute-01")
    with pytest.raises(AssertionError, match=r"^compute-01: Prometheus holds .* of 0 GPUs"):
        check()


class Computing:
    """A machine whose exporter tells one figure before a load, one under it, and one after it."""

    def __init__(self, *told: str, lives: bool = True) -> None:
        self.told, self.lives, self.stage = told, lives, 0
        self.script: Script = {
            "curl": lambda _: self.exporter(),
            "systemd-run": self.to(1),
            "systemctl is-active": lambda _: "active\n" if lives else Result((), 3, "inactive\n"),
            "systemctl stop": self.to(2),
            "journalctl": "node python3[812]: cuInit: no CUDA-capable device is detected (100)\n",
            "rm": "",
        }

    def exporter(self) -> str | Result:
        told = self.told[self.stage]
        return f"{exported(GPU_UTIL=told)}\n200" if told != "away" else Result((), 7, "\n000", "curl: (7) refused")

    def to(self, stage: int) -> Callable[[tuple[str, ...]], str]:
        def done(_: tuple[str, ...]) -> str:
            self.stage = stage
            return ""

        return done


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "FOLLOWS", 0.01)


def follow(second: Computing) -> tuple[Cluster, Measurements]:
    """Judge a cluster whose first machine is well; whatever comes of it, no load is left on either."""
    limits, evidence = load_limits("local"), Evidence()
    measure = Measurements(limits, evidence)
    scripts = {"compute-01": Computing("3", "100", "0").script, "compute-02": second.script}
    cluster = fake_cluster(scripts, config=site())
    try:
        checks.test_utilisation_follows_a_load(cluster, evidence, measure, limits)
    finally:
        assert evidence.samples
        for name in scripts:
            asked = [call.argv[:2] for call in cluster[name].transport.calls]  # type: ignore[attr-defined]
            loads = [words[0] for words in asked if words[0] == "systemd-run" or words[1] == "stop"]
            assert loads in ([], ["systemd-run", "systemctl"])
    return cluster, measure


@pytest.mark.usefixtures("_short_waits")
def test_utilisation_that_follows() -> None:
    cluster, measure = follow(Computing("7", "98", "5"))
    assert [(item.node, item.value) for item in measure.items if item.metric == "gpu.utilisation_rise"] == [
        ("compute-01, GPU-604ac7", 97.0),
        ("compute-02, GPU-604ac7", 91.0),
    ]
    [start] = [
        call.argv
        for call in cluster["compute-02"].transport.calls  # type: ignore[attr-defined]
        if call.argv[0] == "systemd-run"
    ]
    assert start[-3:] == ("python3", "/run/ai-how-gpu-load.py", str(checks.LOAD))
    assert checks.LOAD > checks.FOLLOWS


@pytest.mark.seen_to_fail("INF-37")
@pytest.mark.usefixtures("_short_waits")
def test_utilisation_that_does_not_follow() -> None:
    with pytest.raises(
        LimitExceeded, match=r"^compute-02, GPU-604ac7: gpu\.utilisation_rise is 1 %, expected at least"
    ):
        follow(Computing("2", "3", "0"))
    with pytest.raises(
        LimitExceeded, match=r"^compute-02, GPU-604ac7: gpu\.utilisation_fall is 2 %, expected at least"
    ):
        follow(Computing("2", "99", "97"))
    with pytest.raises(
        AssertionError, match=r"^compute-02, GPU-604ac7: its utilisation is 88 % with no load of ours, ex"
    ):
        follow(Computing("88", "99", "0"))
    with pytest.raises(
        AssertionError, match=r"^compute-02: the load on its GPUs ended before it was ended \(inactive\)"
    ):
        follow(Computing("2", "2", "2", lives=False))
    with pytest.raises(
        AssertionError, match=r"^compute-02: DCGM_FI_DEV_GPU_UTIL is of 0 GPUs \(utilisation\), expected 1"
    ):
        follow(Computing("", "", ""))
    with pytest.raises(
        AssertionError, match=r"^compute-02: DCGM_FI_DEV_GPU_UTIL of GPU-604ac7 is 9\.22337e\+18, which"
    ):
        follow(Computing("0", BLANK, "0"))
    for told in (("away", "99", "0"), ("2", "away", "0"), ("2", "99", "away")):
        with pytest.raises(
            AssertionError, match=r"^compute-02: dcgm-exporter, http.*:9400/metrics, does not answer: curl"
        ):
            follow(Computing(*told))
