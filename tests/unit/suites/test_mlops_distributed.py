"""The checks of distributed training go red for the right reason, and green on what real jobs left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from suites.mlops._request import Request
from suites.mlops._trained import Killed, Trained
from suites.mlops.distributed import test_distributed as checks
from suites.mlops.distributed._judged import in_place
from tests.unit.suites.mlops_fakes import (
    DATA,
    HEALTHY,
    KILLED,
    ONE_NODE,
    TRES,
    TWO_NODES,
    XID,
    Edit,
    Ranks,
    ddp,
    ended,
    kernels,
    metric,
    mnist,
    ranks,
    resumed,
    runs,
    scale,
)
from tests.unit.suites.task042_fakes import new_measure


def test_where_jobs_run(evidence: Evidence) -> None:
    found = runs(evidence)
    work = found.work("cifar10")
    assert found.request(work) == ONE_NODE
    assert found.request(work, last=True) == TWO_NODES
    assert found.one(work) == Request(1, 1024, 1, ("node01",), "gpu")


@pytest.mark.seen_to_fail("TR2-04")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            metric(training_time_seconds=901.0),
            r"node01: job 7 \(ddp\): metrics\.json cannot be true: it trained for 901",
        ),
        (metric(processes=1), r"node01: job 7 \(ddp\): 3 epochs by 1 processes, expected 3 by 2"),
        (metric(epochs=2), r"node01: job 7 \(ddp\): 2 epochs by 2 processes, expected 3 by 2"),
        (lambda found: found["history"][1].update(loss=float("nan")), "node01: .*: the loss of epoch 2 is nan, expec"),
    ],
)
def test_a_training_that_is_not_done_in_time(edit: Edit, message: str, evidence: Evidence) -> None:
    checks.test_time(runs(evidence), evidence, new_measure())
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_time(runs(evidence, {"ddp": ddp(edit)}), evidence, new_measure())


@pytest.mark.seen_to_fail("TR2-04")
def test_a_training_that_takes_too_long(evidence: Evidence) -> None:
    late = ddp(metric(training_time_seconds=901.0), ended=ended(id="7", name="ddp", tres=TRES, elapsed=950.0))
    with pytest.raises(LimitExceeded, match=r"^node01: distributed\.seconds\.smoke is 901 s, expected at most 900 s"):
        checks.test_time(runs(evidence, {"ddp": late}), evidence, new_measure())


@pytest.mark.seen_to_fail("TR2-05")
def test_a_network_that_has_learnt_little(evidence: Evidence) -> None:
    checks.test_accuracy(runs(evidence), new_measure())
    with pytest.raises(
        LimitExceeded, match=r"^node01: distributed\.accuracy\.smoke is 59\.9 %, expected at least 60 %"
    ):
        checks.test_accuracy(runs(evidence, {"ddp": ddp(metric(accuracy=59.9))}), new_measure())


@pytest.mark.seen_to_fail("TR2-06")
def test_a_gpu_that_is_idle(evidence: Evidence) -> None:
    def run(second: str, size: str = "full") -> None:
        found = ddp(gpus={0: "GPU-0, 91, 4210, 81559\n", 1: second})
        checks.test_utilisation(replace(runs(evidence, {"ddp": found}), scale=scale(size)), evidence, new_measure())

    run("GPU-1, 88, 4210, 81559\n")
    with pytest.raises(LimitExceeded, match=r"^node01: distributed\.gpu\.utilisation\.full is 30 %, exp"):
        run("GPU-1, 30, 4210, 81559\n")
    with pytest.raises(
        AssertionError, match=r"distributed\.gpu\.utilisation\.smoke has no gate, so nothing would be ju"
    ):
        run("GPU-1, 30, 4210, 81559\n", "smoke")
    with pytest.raises(AssertionError, match="nvidia-smi said nothing of the GPU of rank 1"):
        run("")


def change(rank: int, key: str, epoch: int, value: Any) -> Callable[[Ranks], None]:
    def edit(found: Ranks) -> None:
        found[rank][key][epoch] = value

    return edit


def idle(found: Ranks) -> None:
    for one in found:
        one["parameters"] = [one["parameters"][-1]] * 3


def setting(number: int, /, **values: Any) -> Callable[[Ranks], None]:
    return lambda found: found[number].update(values)


@pytest.mark.seen_to_fail("TR2-08")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            change(1, "parameters", 1, "0" * 64),
            r"node01: rank 1 has the parameters 0{12}… after epoch 2, rank 0 on node0",
        ),
        (idle, r"node01: job 7 \(ddp\): an epoch changed nothing"),
        (setting(1, parameters=[]), "node01: rank 1 tells of 0 epochs, rank 0 of 3"),
        (setting(1, backend="mpi"), "node01: rank 1 talks over 'mpi', expected 'gloo'"),
        (setting(1, node="node02"), r"node01: job 7 \(ddp\): processes ran on .*'node02': 1.*, expected {'node01': 2}"),
        (setting(1, rank=0), r"node01: job 7 \(ddp\): has the ranks \[0, 0\], expected 0 to 1"),
        (
            lambda found: [one.update(gpu="GPU-1") for one in found],
            r"node01: job 7 \(ddp\): processes share a GPU: GPU-1",
        ),
        (setting(0, initial="x"), r"node01: /mnt/.*/ranks\.json: 0\.initial: String should match pattern"),
    ],
)
def test_processes_that_are_not_one(edit: Callable[[Ranks], None], message: str, evidence: Evidence) -> None:
    checks.test_parameters(runs(evidence))
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_parameters(runs(evidence, {"ddp": ddp(ranks_text=ranks(edit))}))


@pytest.mark.seen_to_fail("TR2-08")
def test_parameters_that_were_saved_are_others(evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^node01: job 7 \(ddp\): 0{12}… was saved, the processes ended with"):
        checks.test_parameters(runs(evidence, {"ddp": ddp(metric(parameters="0" * 64))}))
    with pytest.raises(AssertionError, match="^node01: rank 0 talks over 'gloo', expected 'nccl'"):
        checks.test_parameters(runs(evidence, real=True))


def overlap(found: Ranks) -> None:
    """A sample is fed to both, another to nobody."""
    found[1]["samples"][1][0] = found[0]["samples"][1][0]


def shifted(found: Ranks) -> None:
    """One gets a sample less."""
    found[1]["samples"][0].pop()


def unseen(found: Ranks) -> None:
    for one in found:
        one["samples"][0].pop()


def unshuffled(found: Ranks) -> None:
    for one in found:
        one["samples"] = [one["samples"][0]] * 3


@pytest.mark.seen_to_fail("TR2-09")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (overlap, r"node01: rank 0 of job 7 was fed sample \d+ in epoch 2, and it was fed twice"),
        (shifted, r"node01: rank 1 of job 7 was fed 719 samples in epoch 1, rank 0 720"),
        (unseen, r"node01: job 7 \(ddp\): nobody was fed sample \d+ in epoch 1 \(2 of 1440\)"),
        (unshuffled, "node01: rank 0 of job 7 was fed the same order in two epochs"),
        (setting(1, samples=[]), r"node01: job 7 \(ddp\): ranks tell of \[0, 3\] epochs"),
        (lambda found: [one.update(samples=[]) for one in found], r"node01: job 7 \(ddp\): ranks tell of no epoch"),
    ],
)
def test_samples_that_are_not_shared_out(edit: Callable[[Ranks], None], message: str, evidence: Evidence) -> None:
    checks.test_samples(runs(evidence))
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_samples(runs(evidence, {"ddp": ddp(ranks_text=ranks(edit))}))


@pytest.mark.seen_to_fail("TR2-10")
@pytest.mark.parametrize(
    "line",
    [
        "[rank1]:[E1127 00:54:21 ProcessGroupNCCL.cpp:616] [Rank 1] Watchdog: NCCL Error: timeout",
        "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.102.0.12]:62110.",
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2026",
        "E1127 00:54:21.959000 378 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: -9)",
    ],
)
def test_output_that_tells_of_a_broken_connection(line: str, evidence: Evidence) -> None:
    checks.test_errors(runs(evidence))
    with pytest.raises(AssertionError, match=r"job 9 \(ddp-mnist\): standard error has 1 bad lines, first '"):
        checks.test_errors(runs(evidence, {"ddp-mnist": mnist(stderr=f"INFO: x\n{line}\n")}))


@pytest.mark.seen_to_fail("TR2-10")
def test_an_agent_that_heard_late_that_all_are_done(evidence: Evidence) -> None:
    """The agent that keeps the store was gone; the sample is of PyTorch 2.13.0."""
    said = (DATA / "exit-barrier.txt").read_text()
    for gone in (said, said.replace("Broken pipe", "Connection reset by peer")):
        checks.test_errors(runs(evidence, {"ddp-mnist": mnist(stderr=gone)}))
    late = said.replace("DistNetworkError: Failed to recv", "DistStoreError: wait timeout after 300000ms")
    for worse, lines in ((late, 7), (said + "Traceback (most recent call last):\n", 1)):
        with pytest.raises(AssertionError, match=rf"job 9 \(ddp-mnist\): standard error has {lines} bad lines, first"):
            checks.test_errors(runs(evidence, {"ddp-mnist": mnist(stderr=worse)}))


@pytest.mark.seen_to_fail("TR2-10")
def test_a_kernel_that_tells_of_an_error_of_a_gpu(evidence: Evidence) -> None:
    checks.test_errors(runs(evidence, real=True, cluster=kernels(node01=HEALTHY, node02=HEALTHY)))
    with pytest.raises(AssertionError, match=r"^node02: while node01,node02: job 9 \(ddp-mnist\) ran, its kernel told"):
        checks.test_errors(runs(evidence, real=True, cluster=kernels(node01=HEALTHY, node02=XID)))


@pytest.mark.seen_to_fail("TR2-11")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            metric(training_time_seconds=301.0),
            r"node01: distributed\.mnist\.seconds\.smoke is 301 s, expected at most 300",
        ),
        (metric(accuracy=94.9), r"node01: distributed\.mnist\.accuracy\.smoke is 94\.9 %, expected at least 95 %"),
        (metric(epochs=4), r"node01,node02: job 9 \(ddp-mnist\): 4 epochs, expected 5"),
    ],
)
def test_mnist_that_is_slow_or_learns_little(edit: Edit, message: str, evidence: Evidence) -> None:
    checks.test_mnist(runs(evidence), evidence, new_measure())
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_mnist(runs(evidence, {"ddp-mnist": mnist(edit)}), evidence, new_measure())


def other_loss(metrics: dict[str, Any]) -> None:
    metrics["history"][3]["loss"] *= 1.01


def shorter(metrics: dict[str, Any]) -> None:
    metrics["history"].pop()


@pytest.mark.seen_to_fail("TR2-13")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            metric(resumed_from=0),
            r"node01,node02: job 11 \(ddp-killed-on\): went on after epoch 0; it was killed in epoch 3",
        ),
        (other_loss, r"node01: distributed\.resume\.apart is 0\.01 fraction, expected at most 0\.001"),
        (shorter, r"node01,node02: job 11 \(ddp-killed-on\): tells of 4 epochs, .* of 5"),
    ],
)
def test_a_training_that_goes_on_otherwise(edit: Edit, message: str, evidence: Evidence) -> None:
    checks.test_resume(runs(evidence), evidence, new_measure())
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_resume(runs(evidence, {"ddp-killed": resumed(edit)}), evidence, new_measure())


@pytest.mark.seen_to_fail("TR2-14")
@pytest.mark.parametrize(
    ("killed", "message"),
    [
        (replace(KILLED, seconds=301.0), r"node01: distributed\.killed is 301 s, expected at most 300 s"),
        (
            replace(KILLED, ended=replace(KILLED.ended, state="TIMEOUT")),
            r"node01,node02: job 10 .* is TIMEOUT; expected",
        ),
        (
            replace(KILLED, ended=replace(KILLED.ended, state="COMPLETED")),
            r"node01,node02: job 10 .* is COMPLETED; expe",
        ),
    ],
)
def test_a_job_that_outlives_its_process(killed: Killed, message: str, evidence: Evidence) -> None:
    checks.test_killed(runs(evidence), new_measure())
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_killed(runs(evidence, killed=killed), new_measure())


@pytest.mark.seen_to_fail("TR2-15")
@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            mnist(ended=replace(mnist().ended, tres={**TRES, "gres/gpu": 1})),
            "the accounting has 1 GPUs for it, expected 2",
        ),
        (
            mnist(ended=replace(mnist().ended, nodes=("node01",))),
            "the accounting has 2 nodes for it, node01; expected node",
        ),
        (
            mnist(ended=replace(mnist().ended, tres=TRES)),
            "the accounting has 1 nodes for it, node01, node02; expected nod",
        ),
    ],
)
def test_gpus_that_the_accounting_lacks(found: Trained, message: str, evidence: Evidence) -> None:
    checks.test_accounting(runs(evidence))
    with pytest.raises(AssertionError, match=rf"job 9 \(ddp-mnist\): {message}"):
        checks.test_accounting(runs(evidence, {"ddp-mnist": found}))


def test_without_slurm_the_first_two_gpus_of_the_machine_are_asked_for(evidence: Evidence) -> None:
    found = replace(runs(evidence), slurm=None)
    work = found.work("cifar10")
    assert found.request(work) == found.request(work, last=True) == Request(work.cpus, 0, 2)
    assert found.one(work) == Request(work.cpus, 0, 1)
    assert "2 processes" in evidence.items[0].content


def test_who_asked_for_no_machine_by_name_gets_one() -> None:
    nowhere = Request(1, 0, 2)
    with pytest.raises(AssertionError, match=r"ran on \{'node01': 1, 'node02': 1\}, expected \{'node01': 2\}"):
        in_place(replace(mnist(), request=nowhere), "gloo")
    assert len(in_place(replace(ddp(), request=nowhere), "gloo")) == 2
