"""The checks on GPUs go red for the right reason, and green on a Slurm that does right."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from suites.phase6 import test_task042_gpu as checks
from tests.fakes import once_all_ask
from tests.unit.suites.task042_fakes import REFUSED, FakeJob, Rules, fake_slurm, nodes_json


def devices(count: int) -> Rules:
    return [("find /dev", "".join(f"/dev/fakegpu{n}\n" for n in range(count)))]


def told(*answers: str, null: str = "OK", environment: Mapping[str, str] | None = None) -> str:
    """What gpu_probe.py says on a node with as many simulated GPUs as answers."""
    seen = {f"/dev/fakegpu{n}": answer for n, answer in enumerate(answers)}
    return json.dumps({"devices": seen, "null": null, "environment": dict(environment or {})})


ONE = {"SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0"}


@pytest.mark.seen_to_fail("SLU-31")
def test_a_gres_count_that_is_not_the_machines(evidence: Evidence) -> None:
    checks.test_gres_count_equals_the_devices(fake_slurm(compute=devices(2)), evidence)
    with pytest.raises(
        AssertionError, match=r"^node01: Slurm has gres/gpu=2, the node has 1 GPU devices \(/dev/fakegpu0\)"
    ):
        checks.test_gres_count_equals_the_devices(fake_slurm(compute=devices(1)), evidence)
    with pytest.raises(
        AssertionError, match=r"^node01: Slurm has .*\n *node02: Slurm has gres/gpu=2, the node has 1 GPU d"
    ):
        checks.test_gres_count_equals_the_devices(fake_slurm(compute=devices(1)), evidence)
    none = nodes_json(node01={"gres": ""}, node02={"gres": ""})
    with pytest.raises(AssertionError, match=r"^local: no compute node has a GPU device; nothing was counted"):
        checks.test_gres_count_equals_the_devices(fake_slurm(compute=devices(0), nodes=none), evidence)


def test_devices_are_counted_on_all_nodes_at_once(evidence: Evidence) -> None:
    answer = once_all_ask(len(fake_slurm().cluster.on("compute")), "/dev/fakegpu0\n/dev/fakegpu1\n")
    checks.test_gres_count_equals_the_devices(fake_slurm(compute=[("find /dev", answer)]), evidence)


@pytest.mark.seen_to_fail("SLU-32")
def test_a_job_that_sees_a_gpu_too_many_or_the_wrong_one(evidence: Evidence) -> None:
    right = FakeJob("gpu-1", 3, told("ENXIO", "EPERM", environment=ONE))
    second = FakeJob("gpu-1", 4, told("ENXIO", "EPERM", environment=ONE), nodes="node02")
    checks.test_a_job_with_one_gpu_sees_one(fake_slurm([right, second]), evidence)
    open_there = FakeJob("gpu-1", 4, told("ENXIO", "ENXIO", environment=ONE), nodes="node02")
    with pytest.raises(AssertionError, match=r"^node02: job 4 with gres=gpu:1 may open"):
        checks.test_a_job_with_one_gpu_sees_one(fake_slurm([right, open_there]), evidence)
    with pytest.raises(AssertionError, match=r"^job 3 \(gpu-1\) on node01: asked for node02 and ran elsewhere"):
        checks.test_a_job_with_one_gpu_sees_one(fake_slurm([right]), evidence)
    both = FakeJob("gpu-1", 3, told("ENXIO", "ENXIO", environment=ONE))
    with pytest.raises(
        AssertionError, match=r"^node01: job 3 with gres=gpu:1 may open \['/dev/fakegpu0', '/dev/fakegpu1'\]"
    ):
        checks.test_a_job_with_one_gpu_sees_one(fake_slurm([both]), evidence)
    other = FakeJob("gpu-1", 3, told("EPERM", "ENXIO", environment=ONE))
    with pytest.raises(AssertionError, match=r"^node01: job 3 may open /dev/fakegpu1, but SLURM_JOB_GPUS is '0'"):
        checks.test_a_job_with_one_gpu_sees_one(fake_slurm([other]), evidence)
    untold = FakeJob("gpu-1", 3, told("ENXIO", "EPERM", environment={"SLURM_JOB_GPUS": "0"}))
    with pytest.raises(AssertionError, match=r"^node01: job 3 has no CUDA_VISIBLE_DEVICES"):
        checks.test_a_job_with_one_gpu_sees_one(fake_slurm([untold]), evidence)


@pytest.mark.seen_to_fail("SLU-32")
def test_a_real_gpu_that_computes_wrongly(evidence: Evidence) -> None:
    def compute(devices: int, wrong: int) -> None:
        said = json.dumps({"devices": devices, "computed": 65536, "wrong": wrong})
        checks.computes(fake_slurm([FakeJob("gpu-compute", 5, said)]), evidence, "node01")

    compute(1, 0)
    with pytest.raises(AssertionError, match=r"^node01: job 5 with gres=gpu:1 has 2 CUDA devices, expected 1"):
        compute(2, 0)
    with pytest.raises(AssertionError, match=r"^node01: job 5 has 3 of 65536 numbers wrong"):
        compute(1, 3)


@pytest.mark.seen_to_fail("SLU-33")
def test_a_job_without_gres_that_sees_a_gpu(evidence: Evidence) -> None:
    def jobs(last: str) -> list[FakeJob]:
        return [FakeJob("gpu-0", 3, told("EPERM", "EPERM")), FakeJob("gpu-0", 4, last, nodes="node02")]

    checks.test_a_job_without_gres_sees_none(fake_slurm(jobs(told("EPERM", "EPERM"))), evidence)
    with pytest.raises(
        AssertionError, match=r"^node02: job 4 without GRES may open \['/dev/fakegpu1'\], expected no GPU"
    ):
        checks.test_a_job_without_gres_sees_none(fake_slurm(jobs(told("EPERM", "ENXIO"))), evidence)
    with pytest.raises(AssertionError, match=r"^node02: job 4 without GRES was told \{'CUDA_VISIBLE_DEVICES': '0'\}"):
        checks.test_a_job_without_gres_sees_none(fake_slurm(jobs(told("EPERM", "EPERM", environment=ONE))), evidence)
    with pytest.raises(
        AssertionError, match=r"^node02: the job sees no GPU device in /dev at all; nothing was compared"
    ):
        checks.test_a_job_without_gres_sees_none(fake_slurm(jobs(told())), evidence)


@pytest.mark.seen_to_fail("SLU-38")
def test_a_device_that_is_not_refused(evidence: Evidence) -> None:
    def jobs(none: str, one: str) -> list[FakeJob]:
        return [FakeJob("gpu-0", 3, none), FakeJob("gpu-1", 4, one)]

    refused = told("EPERM", "EPERM")
    right = jobs(refused, told("ENXIO", "EPERM"))
    other = [FakeJob("gpu-0", 5, refused, nodes="node02"), FakeJob("gpu-1", 6, right[1].stdout, nodes="node02")]
    checks.test_device_whitelist(fake_slurm([*right, *other]), evidence)
    bad = FakeJob("gpu-1", 6, told("ENXIO", "ENXIO"), nodes="node02")
    with pytest.raises(AssertionError, match=r"^node02: job 6 with 1 GPUs got .*expected 1 to open and EPERM"):
        checks.test_device_whitelist(fake_slurm([*right, other[0], bad]), evidence)
    with pytest.raises(
        AssertionError, match=r"^node01: job 4 with 1 GPUs got \{'/dev/fakegpu0': 'ENXIO', '/dev/fakegpu1': 'EN"
    ):
        checks.test_device_whitelist(fake_slurm(jobs(refused, told("ENXIO", "ENXIO"))), evidence)
    with pytest.raises(AssertionError, match=r"^node01: job 4 with 1 GPUs got .*expected 1 to open and EPERM"):
        checks.test_device_whitelist(fake_slurm(jobs(refused, told("ENXIO", "EACCES"))), evidence)
    with pytest.raises(AssertionError, match=r"^node01: job 3 cannot open /dev/null: EPERM"):
        checks.test_device_whitelist(fake_slurm(jobs(told("EPERM", "EPERM", null="EPERM"), refused)), evidence)


def holders(*spans: tuple[str, float, float], short_record: bool = False) -> list[FakeJob]:
    """Jobs of gpu_hold.sh with these GPUs, from when to when; they ask for 2, 1, 1 and 1 GPUs of node01's two."""
    found = []
    for n, (gpus, since, until) in enumerate(spans):
        count = 1 if n or short_record else 2
        said = f"gpus={gpus}\nfrom={since}\nto={until}\n"
        found.append(FakeJob(f"gpu-hold-{n}", 30 + n, said, tres={"gres/gpu": count}))
    return found


FAIR = (("0,1", 1.0, 2.0), ("0", 2.1, 3.0), ("1", 2.1, 3.0), ("0", 3.1, 4.0))


@pytest.mark.seen_to_fail("SLU-34")
def test_gpus_given_out_twice(evidence: Evidence) -> None:
    checks.test_contention(fake_slurm(holders(*FAIR)), evidence)
    shared = (FAIR[0], FAIR[1], ("0", 2.5, 3.0), FAIR[3])
    with pytest.raises(AssertionError, match=r"^node01: jobs 31 and 32 held GPU \['0'\] at once"):
        checks.test_contention(fake_slurm(holders(*shared)), evidence)
    crowded = (("0,1", 1.0, 2.5), *FAIR[1:])
    with pytest.raises(AssertionError, match=r"^node01: 4 GPUs in use when job 31 began, there are 2"):
        checks.test_contention(fake_slurm(holders(*crowded)), evidence)
    with pytest.raises(AssertionError, match=r"^job 30 .* on node01: the accounting has 1 GPUs for it, it asked for 2"):
        checks.test_contention(fake_slurm(holders(*FAIR, short_record=True)), evidence)
    with pytest.raises(AssertionError, match=r"^job 30 .* on node01: was told of no GPU; it said"):
        checks.test_contention(fake_slurm(holders(("", 1.0, 2.0), *FAIR[1:])), evidence)


@pytest.mark.seen_to_fail("SLU-35")
def test_a_request_that_should_have_been_refused(evidence: Evidence) -> None:
    checks.test_more_gpus_than_exist_are_refused(fake_slurm(first=[("sbatch", REFUSED)]), evidence)
    with pytest.raises(AssertionError, match=r"^controller: sbatch accepted gpu:3 where no node has more than 2"):
        checks.test_more_gpus_than_exist_are_refused(fake_slurm(first=[("sbatch", "12\n")]), evidence)
    mute = Result((), 1, stderr="sbatch: error: Batch job submission failed: \n")
    with pytest.raises(AssertionError, match=r"^controller: sbatch refused without a reason"):
        checks.test_more_gpus_than_exist_are_refused(fake_slurm(first=[("sbatch", mute)]), evidence)
    stays = FakeJob("gpu-too-many", 12, state="PENDING")
    with pytest.raises(AssertionError, match=r"^controller: the refused job is in the queue as \[12\]"):
        checks.test_more_gpus_than_exist_are_refused(fake_slurm([stays], first=[("sbatch", REFUSED)]), evidence)
