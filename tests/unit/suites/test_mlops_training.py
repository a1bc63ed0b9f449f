"""The checks of a training of one process go red for the right reason, and green on what a real job left."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from pytest_ai_how.errors import FactError
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites.mlops._trained import Killed, Trained
from suites.mlops.training import test_training as checks
from tests.fakes import fake_cluster
from tests.unit.suites.mlops_fakes import (
    HEALTHY,
    XID,
    Edit,
    digests,
    ended,
    host,
    kernels,
    left,
    looked,
    scale,
    trainer,
)
from tests.unit.suites.task042_fakes import new_measure

DIGITS = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


def metric(**values: Any) -> Edit:
    def edit(metrics: dict[str, Any]) -> None:
        assert values.keys() <= metrics.keys()
        metrics.update(values)

    return edit


def epoch(number: int, **values: Any) -> Edit:
    def edit(metrics: dict[str, Any]) -> None:
        metrics["history"][number - 1].update(values)

    return edit


def without(name: str) -> Edit:
    def edit(metrics: dict[str, Any]) -> None:
        del metrics[name]

    return edit


@pytest.mark.seen_to_fail("TR1-01")
def test_data_that_is_not_what_was_published(evidence: Evidence) -> None:
    checks.test_data(trainer(cluster=digests(node01=DIGITS, node02=DIGITS)), scale(), evidence)
    with pytest.raises(AssertionError, match=r"^node02: /mnt/.*/digits\.csv\.gz has the SHA-256 0{64}, expected 09f"):
        checks.test_data(trainer(cluster=digests(node01=DIGITS, node02="0" * 64)), scale(), evidence)
    gone = Result((), 1, "", "sha256sum: digits.csv.gz: No such file or directory\n")
    cluster = fake_cluster({"node01": [("sha256sum", f"{DIGITS}  x\n")], "node02": [("sha256sum", gone)]})
    with pytest.raises(AssertionError, match=r"^node02: .* cannot be read: sha256sum: digits\.csv\.gz: No such file"):
        checks.test_data(trainer(cluster=cluster), scale(), evidence)


@pytest.mark.seen_to_fail("TR1-02")
@pytest.mark.parametrize(
    ("tres", "message"),
    [
        ({"gres/gpu": 2}, "the accounting has gres/gpu=2, expected 1"),
        ({"gres/gpu": 0}, "the accounting has gres/gpu=0, expected 1"),
        ({"cpu": 0}, "has 0 CPUs, asked for 1"),
        ({"mem": 2048}, "the accounting has mem=2048, expected 1024"),
        ({"node": 2}, "the accounting has node=2, expected 1"),
    ],
)
def test_an_allocation_that_is_not_what_was_asked_for(tres: dict[str, int], message: str, evidence: Evidence) -> None:
    checks.test_allocation(trainer(), scale(), evidence)
    found = left(ended=ended(tres={**ended().tres, **tres}))
    with pytest.raises(AssertionError, match=rf"^node01: job 2 \(train\): {message}"):
        checks.test_allocation(trainer({"train": found}), scale(), evidence)


@pytest.mark.seen_to_fail("TR1-02")
def test_a_job_on_another_node(evidence: Evidence) -> None:
    found = left(ended=ended(nodes=("node02",)))
    with pytest.raises(AssertionError, match=r"^node02: job 2 \(train\): asked for node01"):
        checks.test_allocation(trainer({"train": found}), scale(), evidence)


def judge(check: Callable[..., None], found: Trained, evidence: Evidence) -> None:
    checks_with_figures = (checks.test_time, checks.test_accuracy)
    given = (new_measure(),) if check in checks_with_figures else ()
    check(trainer({"train": found}), scale(), evidence, *given)


@pytest.mark.seen_to_fail("TR1-03")
def test_a_training_that_takes_too_long_or_stops_early(evidence: Evidence) -> None:
    judge(checks.test_time, left(), evidence)
    with pytest.raises(LimitExceeded, match=r"^node01: training\.seconds\.smoke is 301 s, expected at most 300 s"):
        judge(checks.test_time, left(edit=metric(training_time_seconds=301.0)), evidence)
    with pytest.raises(AssertionError, match=r"^node01: job 2 \(train\): 4 epochs, expected 5"):
        judge(checks.test_time, left(edit=metric(epochs=4)), evidence)


@pytest.mark.seen_to_fail("TR1-04")
def test_a_model_that_has_learnt_little(evidence: Evidence) -> None:
    judge(checks.test_accuracy, left(), evidence)
    assert {item.kind for item in evidence.items} >= {"image/svg+xml"}
    with pytest.raises(LimitExceeded, match=r"^node01: training\.accuracy\.smoke is 94\.9 %, expected at least 95 %"):
        judge(checks.test_accuracy, left(edit=metric(accuracy=94.9)), evidence)


@pytest.mark.seen_to_fail("TR1-05")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (epoch(5, loss=0.9), r"the loss was 0\.8955 in the first epoch and 0\.9 in the last; it must fall"),
        (epoch(3, loss=float("nan")), "the loss of epoch 3 is nan, expected a number"),
        (epoch(2, loss=float("inf")), "the loss of epoch 2 is inf, expected a number"),
    ],
)
def test_a_loss_that_does_not_fall(edit: Edit, message: str, evidence: Evidence) -> None:
    judge(checks.test_loss, left(), evidence)
    with pytest.raises(AssertionError, match=rf"^node01: job 2 \(train\): {message}"):
        judge(checks.test_loss, left(edit=edit), evidence)


@pytest.mark.seen_to_fail("TR1-06")
def test_a_model_that_is_another_when_loaded(evidence: Evidence) -> None:
    checks.test_reload(trainer(), scale(), evidence, new_measure())
    with pytest.raises(LimitExceeded, match=r"^node01: training\.reload\.apart is 0\.28\d* %, expected at most 0\.1 %"):
        checks.test_reload(trainer(seen=looked(accuracy=97.1988)), scale(), evidence, new_measure())
    with pytest.raises(AssertionError, match=r"/train/model\.pt has the parameters 0{12}…, beb2def49495… were trained"):
        checks.test_reload(trainer(seen=looked(parameters="0" * 64)), scale(), evidence, new_measure())


@pytest.mark.seen_to_fail("TR1-07")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("training_time_seconds"), r"node01: /mnt/.*/metrics\.json: training_time_seconds: Field required"),
        (metric(accuracy=101.0), r"node01: .*/metrics\.json: accuracy: Input should be less than or equal to 100"),
        (metric(epochs="5"), r"node01: .*/metrics\.json: epochs: Input should be a valid integer"),
        (metric(batch=64), r"node01: job 2 \(train\): metrics\.json has batch 64, the job was to have 16"),
        (metric(accuracy=97.5), r".*its loss and accuracy are not those of its last epoch; an accuracy of 97\.5 % of"),
        (metric(training_time_seconds=3.0), r".*its epochs took 1\d\.\d\d s together, and all of it 3\.00 s"),
        (metric(training_time_seconds=99.0), r".*it trained for 99\.00 s in a job of 90 s"),
        (epoch(3, epoch=4), r".*its epochs are \[1, 2, 4, 4, 5\], expected 1 to 5"),
        (epoch(3, loss=-0.1), r".*a loss of -0\.1 is none of cross-entropy"),
    ],
)
def test_metrics_that_cannot_be(edit: Edit, message: str, evidence: Evidence) -> None:
    judge(checks.test_metrics, left(), evidence)
    with pytest.raises(AssertionError, match=f"^{message}"):
        judge(checks.test_metrics, left(edit=edit), evidence)


@pytest.mark.seen_to_fail("TR1-07")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"epochs": 5, "loss": 0.1}'])
def test_metrics_that_are_none(text: str, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^node01: .*/metrics\.json: .*; expected what suites/mlops/_metrics\.py"):
        judge(checks.test_metrics, left(metrics_text=text), evidence)


@pytest.mark.seen_to_fail("TR1-08")
@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "[rank0]:[W1127] UserWarning: CUDA initialization: the NVIDIA driver on your system is too old",
        "Traceback (most recent call last):",
        "NVRM: Xid (PCI:0000:01:00): 79, pid=812, GPU has fallen off the bus.",
        "slurmstepd-node01: error: Detected 1 oom_kill event in StepId=2.0.",
        "node01:812:812 [0] NCCL WARN Call to ibv_open failed",
    ],
)
def test_output_that_tells_of_an_error(line: str, evidence: Evidence) -> None:
    judge(checks.test_errors, left(), evidence)
    for name, stream in (("standard output", "stdout"), ("standard error", "stderr")):
        with pytest.raises(AssertionError, match=rf"^node01: job 2 \(train\): {name} has 1 bad lines, first '"):
            judge(checks.test_errors, left(**{stream: f"epoch 1: loss 0.5\n{line}\n"}), evidence)


@pytest.mark.seen_to_fail("TR1-08")
def test_a_kernel_that_tells_of_an_error_of_a_gpu(evidence: Evidence) -> None:
    def run(**values: Any) -> None:
        checks.test_errors(trainer(**{"real": True} | values), scale(), evidence)

    # The job ran from …001 to …091; accounts have whole seconds, and a kernel may tell a moment later.
    window = ("1795449001", "1795449092")
    run(cluster=kernels(*window, node01=HEALTHY))
    xid = (
        r"while node01: job 2 \(train\) ran, its kernel told of 1 errors of GPUs, first: '.*Xid \(PCI:0000:01:00\): 79"
    )
    with pytest.raises(AssertionError, match=rf"^node01: {xid}.*'; expected none; do: look the number up"):
        run(cluster=kernels(*window, node01=f"{HEALTHY}\n{XID}", node02=HEALTHY))
    run(cluster=kernels(node01=HEALTHY, node02=XID))  # the job was not there
    run(real=False, cluster=kernels(node01=XID))
    run(cluster=kernels(node01=""))  # nothing happened, and the log is there


def test_a_log_without_any_line_was_not_read(evidence: Evidence) -> None:
    empty = fake_cluster({"node01": [(re.compile("journalctl"), "0\n")]})
    with pytest.raises(FactError, match=r"^node01: the kernel's log is not known: .*\(it has no line at all\)"):
        checks.test_errors(trainer(real=True, cluster=empty), scale(), evidence)


@pytest.mark.seen_to_fail("TR1-08")
def test_machines_that_share_this_hosts_kernel(evidence: Evidence) -> None:
    checks.test_errors(trainer(real=True, host=host(HEALTHY)), scale(), evidence)
    with pytest.raises(
        AssertionError, match=r"^localhost: while node01: job 2 \(train\) ran, its kernel told of 1 err"
    ):
        checks.test_errors(trainer(real=True, host=host(XID)), scale(), evidence)


def test_a_log_that_cannot_be_read_is_no_log_without_errors(evidence: Evidence) -> None:
    refused = Result((), 1, "", "sudo: a password is required\n")
    cluster = fake_cluster({"node01": [(re.compile("journalctl"), refused)]})
    with pytest.raises(FactError, match=r"^node01: the kernel's log is not known: .*: sudo: a password is required"):
        checks.test_errors(trainer(real=True, cluster=cluster), scale(), evidence)
    checks.test_errors(trainer(real=True, cluster=cluster, unreadable="not root, no sudo"), scale(), evidence)
    assert "kernels' logs: not read" in [one.name for one in evidence.items]


def test_how_busy_a_gpu_was_is_recorded_by_the_check_of_time_where_nothing_judges_it(evidence: Evidence) -> None:
    found = trainer({"train": left(gpus={0: "GPU-6f, 7, 4210, 81559\n"})})
    for size, recorded in (("smoke", {"training.gpu.utilisation.smoke": (7, "recorded")}), ("full", {})):
        measure = new_measure()
        checks.test_time(found, scale(size), evidence, measure)
        busy = {one.metric: (one.value, one.verdict) for one in measure.items if "utilisation" in one.metric}
        assert busy == recorded


@pytest.mark.seen_to_fail("TR1-09")
def test_a_gpu_that_is_idle(evidence: Evidence) -> None:
    def run(text: str, size: str = "full") -> None:
        checks.test_utilisation(trainer({"train": left(gpus={0: text})}), scale(size), evidence, new_measure())

    run("GPU-6f, 91, 4210, 81559\nGPU-6f, 88, 4210, 81559\nGPU-6f, 12, 42, 81559")
    with pytest.raises(LimitExceeded, match=r"^node01: training\.gpu\.utilisation\.full is 12 %, expecte"):
        run("GPU-6f, 91, 4210, 81559\nGPU-6f, 12, 4210, 81559\nGPU-6f, 3, 4210, 81559\n")
    with pytest.raises(
        AssertionError, match=r"local\.yaml:\d+: training\.gpu\.utilisation\.smoke has no gate, so nothing"
    ):
        run("GPU-6f, 91, 4210, 81559\n", "smoke")
    for text in ("", "GPU-6f, [N/A], 4210\n"):
        with pytest.raises(AssertionError, match="nvidia-smi said nothing of the GPU of rank 0 after the first epoch"):
            run(text)


@pytest.mark.seen_to_fail("TR1-13")
def test_memory_that_stays_in_use(evidence: Evidence) -> None:
    def run(before: tuple[int, ...], after: tuple[int, ...]) -> None:
        found = trainer({"train": left(idle=before)}, memory=after)
        checks.test_memory_afterwards(found, scale(), evidence, new_measure())

    run((4, 4), (4, 3))
    with pytest.raises(LimitExceeded, match=r"^node01: training\.gpu\.kept is 4206 MiB, expected at most 64 MiB"):
        run((4, 4), (4, 4210))
    for before, after in (((4, 4), (4,)), ((), ())):
        with pytest.raises(
            AssertionError, match=rf"^node01: nvidia-smi tells of {len(after)} GPUs, of {len(before)} b"
        ):
            run(before, after)


@pytest.mark.seen_to_fail("TR1-10")
def test_the_same_seed_and_another_model(evidence: Evidence) -> None:
    again = left(ended=ended(id="4"))
    checks.test_repeat(trainer({"train-again": again}), scale(), evidence, new_measure())
    other = left(edit=metric(accuracy=96.9), ended=ended(id="4"))
    with pytest.raises(LimitExceeded, match=r"^node01: training\.repeat\.apart is 0\.57\d* %, expected at most 0\.5 %"):
        checks.test_repeat(trainer({"train-again": other}), scale(), evidence, new_measure())
    with pytest.raises(AssertionError, match="is the same job"):
        checks.test_repeat(trainer({"train-again": left()}), scale(), evidence, new_measure())


@pytest.mark.seen_to_fail("TR1-11")
def test_a_training_that_does_not_go_on(evidence: Evidence) -> None:
    checks.test_resume(trainer(), scale(), evidence, new_measure())
    anew = left("resumed", metric(resumed_from=0))
    with pytest.raises(AssertionError, match=r"went on after epoch 0; it was killed in epoch 3, so the last whole one"):
        checks.test_resume(trainer({"train-killed": anew}), scale(), evidence, new_measure())
    with pytest.raises(
        AssertionError, match=r"job 5 \(train\): was killed in epoch 3, and is COMPLETED; expected FAILED"
    ):
        checks.test_resume(trainer(killed=Killed(ended(id="5"), 1.0)), scale(), evidence, new_measure())
    found = left("resumed", all_of(metric(accuracy=94.95798319327731), epoch(5, accuracy=94.95798319327731)))
    with pytest.raises(LimitExceeded, match=r"training\.resume\.apart is 2\.5"):
        checks.test_resume(trainer({"train-killed": found}), scale(), evidence, new_measure())


def all_of(*edits: Edit) -> Edit:
    def edit(metrics: dict[str, Any]) -> None:
        for one in edits:
            one(metrics)

    return edit


@pytest.mark.seen_to_fail("TR1-12")
def test_a_record_that_lacks_epochs_or_tells_others(evidence: Evidence) -> None:
    checks.test_record(trainer(), scale(), evidence)
    scalars = looked()["scalars"]
    short = {**scalars, "loss": scalars["loss"][:4]}
    with pytest.raises(AssertionError, match=r"loss was recorded for the epochs \[1, 2, 3, 4\], expected 1 to 5"):
        checks.test_record(trainer(seen=looked(scalars=short)), scale(), evidence)
    with pytest.raises(AssertionError, match=r"loss was recorded for the epochs \[\], expected 1 to 5"):
        checks.test_record(trainer(seen=looked(scalars={})), scale(), evidence)
    other = {**scalars, "accuracy": [[step, value / 2] for step, value in scalars["accuracy"]]}
    with pytest.raises(AssertionError, match=r"accuracy was recorded as \[47\.6"):
        checks.test_record(trainer(seen=looked(scalars=other)), scale(), evidence)
