"""Oumi's checks of GPUs and of the adapter go red for the right reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.scales import Scale, load_scale
from suites.mlops.oumi import test_adapter as adapter
from suites.mlops.oumi import test_distributed as distributed
from suites.mlops.oumi import test_gpus as checks
from suites.mlops.oumi._oumi import Oumi
from suites.mlops.oumi._records import starved

from .oumi_fakes import EXPORTED, NCCL, PLAN, WORK, oumi, smi, state

ALONE = {"two-0/train.gpus.csv": smi() + "\n" + smi("GPU-1")}


@pytest.fixture
def full() -> Scale:
    """Whose limits judge; the work is that of smoke."""
    return load_scale("full")


@pytest.mark.seen_to_fail("OUM-09")
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.err", "torch.OutOfMemoryError: CUDA out of memory.\n", r"train\.err: memory ran out: 'torch\.OutOfM"),
        ("train.out", "slurmstepd: error: Detected 1 oom_kill event\n", r"train\.out: memory ran out: 'slurmstepd"),
        ("train.gpus.csv", "", r"nvidia-smi told of 0 GPUs \(none\) while it trained, expected 1"),
        ("train.gpus.csv", smi() + "\n" + smi("GPU-1"), r"nvidia-smi told of 2 GPUs \(GPU-0, GPU-1\) while"),
        (
            "train.gpus.csv",
            smi(busy=0),
            r"GPU-0 was never busy in 4 samples; expected that the training uses it; do: s",
        ),
    ],
)
def test_memory_that_ran_out_or_was_not_seen(
    name: str, text: str, message: str, evidence: Evidence, measure: Measurements, full: Scale
) -> None:
    checks.test_memory(oumi(real=True), full, evidence, measure)
    with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-sft\): {message}"):
        checks.test_memory(oumi({name: text}, real=True), full, evidence, measure)


@pytest.mark.seen_to_fail("OUM-09")
def test_a_gpu_that_is_nearly_full(evidence: Evidence, measure: Measurements, full: Scale) -> None:
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.gpu\.memory\.full is 91\.\d+ %, expected at most 90 %"):
        checks.test_memory(oumi({"train.gpus.csv": smi(used=74300)}, real=True), full, evidence, measure)


def test_lines_that_tell_of_no_lack_of_memory() -> None:
    assert starved("0 OOMs?\npeak memory 3 GiB\nroom for more\n") == ()


@pytest.mark.seen_to_fail("OUM-11")
def test_two_gpus_that_gain_little(evidence: Evidence, measure: Measurements, full: Scale) -> None:
    def run(runtime: float, scale: Scale = full, **files: str) -> None:
        fast = {"two/trainer_state.json": state(batch=WORK.batch // 2, runtime=runtime)}
        checks.test_gain(oumi(fast | files, real=True), scale, evidence, measure)

    run(8.0 / 1.5)
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.gain\.full is 1\.1\d+ fraction, expected at least 1\.4"):
        run(7.0)
    with pytest.raises(
        AssertionError, match=r"oumi\.gain\.smoke has no gate, so nothing would be judged; expected a gate"
    ):
        run(4.0, load_scale("smoke"))
    with pytest.raises(AssertionError, match=r"\(oumi-two\): says that it trained for 0\.0 s, in a step of 9\.0 s"):
        run(0.0)
    with pytest.raises(AssertionError, match=r"\(oumi-two\): says that it trained for 10\.0 s, in a step of 9\.0 s"):
        run(10.0)


@pytest.mark.seen_to_fail("OUM-11")
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sft/trainer_state.json", state(79), r"\(oumi-sft\): took 79 steps, expected 80"),
        ("two/trainer_state.json", state(batch=WORK.batch), r"\(oumi-two\): each process took 16 samples at once, exp"),
    ],
)
def test_gains_of_other_work(
    name: str, text: str, message: str, evidence: Evidence, measure: Measurements, full: Scale
) -> None:
    with pytest.raises(AssertionError, match=message):
        checks.test_gain(oumi({name: text}, real=True), full, evidence, measure)


@pytest.mark.seen_to_fail("OUM-12")
def test_a_gpu_that_is_idle(evidence: Evidence, measure: Measurements, full: Scale) -> None:
    checks.test_utilisation(oumi(real=True), full, evidence, measure)
    checks.test_utilisation(oumi(ALONE, nodes=("node01",), real=True), full, evidence, measure)
    idle = oumi({"two-1/train.gpus.csv": smi("GPU-1", busy=30)}, real=True)
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.gpu\.utilisation\.full is 30 %, .* at least 54 %"):
        checks.test_utilisation(idle, full, evidence, measure)
    with pytest.raises(
        AssertionError, match=r"local\.yaml:\d+: oumi\.gpu\.utilisation\.smoke has no gate, so nothing would"
    ):
        checks.test_utilisation(oumi(real=True), load_scale("smoke"), evidence, measure)
    for text, message in (
        (smi("GPU-0"), r"nvidia-smi told of 1 GPUs \(GPU-0\) while it trained, expected 2"),
        (smi("GPU-1", busy=0), "GPU-1 was never busy in 4 samples"),
    ):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-two\): {message}"):
            checks.test_utilisation(oumi({"two-1/train.gpus.csv": text}, real=True), full, evidence, measure)


@pytest.mark.seen_to_fail("OUM-12")
def test_a_gpu_that_the_model_cannot_keep_busy(evidence: Evidence, measure: Measurements, full: Scale) -> None:
    def run(busy: int, possible: str) -> None:
        files = {f"two-{number}/train.gpus.csv": smi(f"GPU-{number}", busy=busy) for number in range(2)}
        checks.test_utilisation(oumi({**files, "pace.gpus.csv": possible}, real=True), full, evidence, measure)

    run(27, smi(busy=35))
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.gpu\.utilisation\.full is 20 %, .* at least 21 %"):
        run(20, smi(busy=35))
    for possible, message in (("", r"nvidia-smi told of 0 GPUs \(none\)"), (smi(busy=0), "GPU-0 was never busy in 4")):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-pace\): {message}"):
            run(27, possible)


@pytest.mark.seen_to_fail("OUM-10")
def test_processes_that_did_not_join_over_nccl(evidence: Evidence, measure: Measurements, full: Scale) -> None:
    joined = {"two-0/train.out": NCCL.format(0) + NCCL.format(1)}
    distributed.test_two_processes(oumi(joined, nodes=("node01",), real=True), full, evidence, measure)
    for wrong, message in (
        (oumi(joined, nodes=("node01",), real=True, tres={"gres/gpu": 1}), "the accounting has 1 GPUs for it, expecte"),
        (oumi(nodes=("node01",), real=True), r"ranks \[\] joined by NCCL, expected"),
        (
            oumi({"two-0/train.out": NCCL.format(0).replace("COMPLETE", "START")}, nodes=("node01",), real=True),
            r"ranks \[\] joined by NCCL, expected",
        ),
    ):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-two\): {message}"):
            distributed.test_two_processes(wrong, full, evidence, measure)


def test_what_no_gate_judges_is_recorded_by_the_checks_of_two_processes(evidence: Evidence) -> None:
    joined = {"two-0/train.out": NCCL.format(0) + NCCL.format(1), **ALONE}
    two = oumi(joined, nodes=("node01",), real=True)

    def recorded(size: str, found: Oumi) -> dict[str, tuple[float, str]]:
        measure = Measurements(load_limits("local"))
        distributed.test_two_processes(found, load_scale(size), evidence, measure)
        distributed.test_same_loss(found, load_scale(size), evidence, measure)
        return {one.metric: (one.value, one.verdict) for one in measure.items}

    small = recorded("smoke", two)
    assert small["oumi.gain.smoke"] == (1.0, "recorded")
    assert small["oumi.gpu.utilisation.smoke"] == (88, "recorded")
    assert {"oumi.rate.one.smoke", "oumi.rate.two.smoke"} < small.keys()
    for others in (recorded("full", two), recorded("smoke", oumi())):
        assert not any("gain" in name or "utilisation" in name for name in others), "judged elsewhere, or no GPUs"


# The adapter

STATE = "lora/trainer_state.json"


def exported(**changes: Any) -> dict[str, str]:
    return {"lora/adapter_config.json": json.dumps(EXPORTED | changes)}


@pytest.mark.seen_to_fail("OUM-24")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"files": {STATE: state(79, judged=(1.0, 1.0))}}, "took 79 steps, expected 80"),
        ({"files": {STATE: state(losses=[(5, 2.0), (80, 1.95)], judged=(1.0, 1.0))}}, "the loss went from 2.0000 to"),
        ({"files": {STATE: state(judged=(1.0,))}}, "judged 1 times, expected after each of 2"),
        ({"files": {STATE: state(judged=(1.0, float("nan")))}}, r"the losses of what was held out are \(1\.0, nan\)"),
        ({"listed": {"adapter_model.safetensors": 0}}, r"lora/adapter_model\.safetensors is missing or empty"),
        ({"listed": {"model.safetensors": 10}}, "exported the whole model; expected the adapter alone"),
        ({"files": exported(r=8)}, "exported r=8 lora_alpha=32 peft_type='LORA', expected r=16"),
        ({"files": exported(r="x")}, r"lora/adapter_config\.json: r: Input should be a valid integer"),
    ],
)
def test_an_adapter_that_is_another(
    values: dict[str, Any], message: str, evidence: Evidence, measure: Measurements
) -> None:
    adapter.test_adapter(oumi(), load_scale("smoke"), evidence, measure)
    with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-lora\): {message}"):
        adapter.test_adapter(oumi(**values), load_scale("smoke"), evidence, measure)


@pytest.mark.seen_to_fail("OUM-24")
def test_an_adapter_that_is_slow_or_large_or_bad(evidence: Evidence, measure: Measurements, full: Scale) -> None:
    good = {STATE: state(PLAN.lora.steps, judged=(2.5, 1.9))}
    adapter.test_adapter(oumi(good, real=True), full, evidence, measure)
    for wrong, message in (
        (oumi(good, real=True, seconds=7201), r"oumi\.lora\.seconds\.full is 7201 s, expected at most 7200 s"),
        (
            oumi(good | {"lora-0/train.gpus.csv": smi() + "\n" + smi("GPU-1", used=19100)}, real=True),
            r"oumi\.lora\.gpu\.memory\.full is 19100 MiB, expected at most 19073 MiB",
        ),
        (
            oumi({STATE: state(judged=(2.9, 2.5))}, real=True),
            r"oumi\.lora\.eval_loss\.full is 2\.5 count, expected at most 2 count",
        ),
    ):
        with pytest.raises(LimitExceeded, match=rf"^node01: {message}"):
            adapter.test_adapter(wrong, full, evidence, measure)
    with pytest.raises(AssertionError, match=r"nvidia-smi told of 1 GPUs \(GPU-0\) while it trained, expected 2"):
        adapter.test_adapter(oumi(good | {"lora-0/train.gpus.csv": smi()}, real=True), full, evidence, measure)
