"""The checks of containers as jobs go red for the right reason, and green on a cluster that is in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result
from suites.phase6 import test_task043_jobs as checks
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm, new_measure, nodes_json
from tests.unit.suites.task043_fakes import BASE, CATALOG, ROOT, failed, machines, runs, said, transport

SRUN = "srun"


def slurm(*first: Any, jobs: tuple[FakeJob, ...] = (), nodes: str = "") -> tuple[Slurm, Registry]:
    """A Slurm whose controller answers ``first`` before all else, and the registry that its nodes see."""
    found = fake_slurm(jobs, first=[*first, ("rm -rf", "")], nodes=nodes)
    transport(found.cluster, "controller").files[f"{ROOT}/.registry/catalog.yaml"] = CATALOG.encode()
    return found, Registry(found.cluster)


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of the size of those in the captured answer."""
    monkeypatch.setattr(checks, "SIZE", 4)


def tensor(edit: Callable[[dict[str, Any]], None] | None = None) -> str:
    told = json.loads(said("tensor-4.json")) | {"node": "node02"}
    if edit:
        edit(told)
    return json.dumps(told)


def off_by_one(key: str) -> Callable[[dict[str, Any]], None]:
    def edit(told: dict[str, Any]) -> None:
        row = told[key][2] if isinstance(told[key][2], list) else told[key]
        row[2] += 1

    return edit


@pytest.mark.usefixtures("four")
@pytest.mark.seen_to_fail("CON-10")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (tensor(off_by_one("product")), "1 of 16 elements of the product matrix product by PyTorch are wrong"),
        (tensor(off_by_one("single")), "1 of 16 elements of the single matrix product"),
        (tensor(off_by_one("whole")), "1 of 16 elements of the whole matrix product"),
        (tensor(off_by_one("gradient")), r"element 2 of PyTorch's gradient is 3091.0, expected 3090"),
        (tensor(lambda told: told.update(node="controller")), "the job ran on controller"),
        (failed("ModuleNotFoundError: No module named 'torch'", 1), r"srun .* ended with 1: ModuleNotFoundError"),
    ],
    ids=["product", "single", "whole", "gradient", "elsewhere", "no-torch"],
)
def test_a_computation_that_is_wrong(evidence: Evidence, answer: Any, message: str) -> None:
    checks.test_tensor_computation(*slurm((SRUN, tensor())), evidence)
    with pytest.raises(AssertionError, match=f"^node02: {message}"):
        checks.test_tensor_computation(*slurm((SRUN, answer)), evidence)


MET = said("meet.txt")


@pytest.mark.seen_to_fail("CON-14")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (MET.splitlines()[1], "node02: no container of the job ran here; they ran on node01"),
        (MET.replace('["node01", "node02"]', '["node01"]', 1), r"node02: its container met those of \['node01'\]"),
        (MET.replace("base.sif", "old.sif", 1), "node02: ran '.*/old.sif', expected .*/base.sif"),
        (
            failed("srun: error: node02: task 1: Exited", 255),
            "node02: srun of one container on each of 2 nodes failed: srun: error: node02: task 1: Exited",
        ),
        ("", "node01: no container of the job ran here; they ran on no node"),
    ],
)
def test_an_image_that_does_not_run_everywhere_at_once(evidence: Evidence, answer: Any, message: str) -> None:
    checks.test_same_image_on_all_nodes_at_once(*slurm((SRUN, MET)), evidence, "r1")
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_same_image_on_all_nodes_at_once(*slurm((SRUN, answer)), evidence, "r1")


def affinity(*cpus: int) -> str:
    return json.dumps(json.loads(said("facts.json")) | {"affinity": cpus})


@pytest.mark.seen_to_fail("CON-15")
def test_a_container_that_escapes_its_cpus(evidence: Evidence) -> None:
    checks.test_cpu_limit_inside(*slurm((SRUN, [affinity(0), affinity(0, 1)])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: in a container, a job with 1 CPUs may run on \[0, 1\]"):
        checks.test_cpu_limit_inside(*slurm((SRUN, affinity(0, 1))), evidence)
    with pytest.raises(AssertionError, match=r"^node01: in a container, a job with 2 CPUs may run on \[1\]"):
        checks.test_cpu_limit_inside(*slurm((SRUN, [affinity(0), affinity(1)])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: Slurm gives it 1 CPU, and no compute node more, .*do: compare"):
        checks.test_cpu_limit_inside(*slurm(nodes=nodes_json(node01={"cpus": 1}, node02={"cpus": 1})), evidence)


def test_the_largest_node_tells_of_cpus(evidence: Evidence) -> None:
    other = [json.dumps(json.loads(affinity(*cpus)) | {"node": "node02"}) for cpus in ((0,), (0, 1))]
    fake = slurm((SRUN, other), nodes=nodes_json(node01={"cpus": 1}))
    checks.test_cpu_limit_inside(*fake, evidence)
    assert "--nodelist=node02" in fake[0].cluster.controller.transport.calls[-1].argv


@pytest.mark.seen_to_fail("CON-15")
def test_a_container_that_escapes_its_memory(evidence: Evidence) -> None:
    small, killed = FakeJob("fill-16", 3, "intact\n"), FakeJob("fill-256", 4, state="OUT_OF_MEMORY", signal=9)
    checks.test_memory_limit_inside(*slurm(jobs=(small, killed)), evidence)
    kept = FakeJob("fill-256", 4, "intact\n")
    with pytest.raises(AssertionError, match=r"^job 4 \(fill-256\) on node01: filled 256 MiB in a container"):
        checks.test_memory_limit_inside(*slurm(jobs=(small, kept)), evidence)
    both = FakeJob("fill-16", 3, state="OUT_OF_MEMORY", signal=9)
    with pytest.raises(AssertionError, match=r"^job 3 \(fill-16\) on node01: ended as OUT_OF_MEMORY"):
        checks.test_memory_limit_inside(*slurm(jobs=(both, killed)), evidence)


def gpus(*answers: str) -> str:
    seen = {f"/dev/fakegpu{n}": answer for n, answer in enumerate(answers)}
    return json.dumps(json.loads(said("gpu-1.json")) | {"devices": seen})


@pytest.mark.seen_to_fail("CON-15")
def test_a_container_that_escapes_its_gpus(evidence: Evidence) -> None:
    none, one, both = gpus("EPERM", "EPERM"), said("gpu-1.json"), gpus("ENXIO", "ENXIO")
    checks.test_gpu_limit_inside(*slurm((SRUN, [none, one, both])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: .* with 0 GPUs may open \['/dev/fakegpu0'\], expected 0"):
        checks.test_gpu_limit_inside(*slurm((SRUN, [one, one, both])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: .* with 1 GPUs may open \['/dev/fakegpu0', '/dev/fakegpu1'\]"):
        checks.test_gpu_limit_inside(*slurm((SRUN, [none, both, both])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: .* with 2 GPUs may open none, expected 2"):
        checks.test_gpu_limit_inside(*slurm((SRUN, [none, one, none])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: .*GPUs of others answer \{'/dev/fakegpu1': 'EIO'\}"):
        checks.test_gpu_limit_inside(*slurm((SRUN, [none, gpus("ENXIO", "EIO"), both])), evidence)
    with pytest.raises(AssertionError, match=r"^node01: a container sees the GPU devices \[\], Slurm has 2"):
        checks.test_gpu_limit_inside(*slurm((SRUN, gpus())), evidence)
    without = nodes_json(node01={"gres": ""}, node02={"gres": ""})
    with pytest.raises(AssertionError, match=r"^local: Slurm knows no node with a GPU; nothing was checked"):
        checks.test_gpu_limit_inside(*slurm(nodes=without), evidence)


BOUND = "/mnt/shared/.ai-how-bound-r1"
READ_ONLY = Result((), 1, "r1 on node01; r1 on node02; ", "touch: cannot touch '/bound/new': Read-only file system\n")


def shared(broken: Mapping[str, Rules], evidence: Evidence) -> None:
    compute: Rules = [
        (_with("sh", f"--bind={BOUND}:/bound:ro"), READ_ONLY),
        (_with("sh", f"--bind={BOUND}:/bound"), ""),
    ]
    outside: Rules = [(f"cat -- {BOUND}/{node}", f"r1 on {node}; ") for node in ("node01", "node02")]
    usual = {"controller": outside, "node01": compute, "node02": compute}
    cluster = machines({node: [*broken.get(node, ()), *rules] for node, rules in usual.items()})
    checks.test_shared_folder_bound(Apptainer(cluster), Registry(cluster), Storage(cluster), evidence, "r1")
    assert transport(cluster, "controller").calls[-1].argv == ("rm", "-rf", "--", BOUND)


def _with(*words: str) -> Callable[[tuple[str, ...]], bool]:
    def has_all(argv: tuple[str, ...]) -> bool:
        return {"apptainer", BASE, *words} <= set(argv)

    return has_all


@pytest.mark.seen_to_fail("CON-19")
@pytest.mark.parametrize(
    ("node", "rule", "message"),
    [
        ("node02", (_with(f"--bind={BOUND}:/bound"), failed("Permission denied", 1)), ".* can't be written: Perm"),
        ("node02", (_with(f"--bind={BOUND}:/bound:ro"), failed("cat: No such file", 1)), "/bound reads '', exp"),
        ("node01", (_with(f"--bind={BOUND}:/bound:ro"), READ_ONLY.stdout), ".*, bound read-only, was written"),
        ("node01", (_with(f"--bind={BOUND}:/bound:ro"), Result((), 1, READ_ONLY.stdout, "touch: EIO")), "writing to"),
        ("controller", (f"cat -- {BOUND}/node02", ""), ".*/node02, written in a container on node02, reads ''"),
    ],
)  # fmt: skip
def test_a_shared_folder_that_is_not_shared(evidence: Evidence, node: str, rule: Any, message: str) -> None:
    shared({}, evidence)
    with pytest.raises(AssertionError, match=f"^{node}: {message}"):
        shared({node: [rule]}, evidence)


def many(**changes: object) -> str:
    told = json.loads(said("start-many-3.json"))
    told["ends"] = [told["ends"][0]] * 20
    return json.dumps(told | {"at_once": 20} | changes)


def start(answer: Any, evidence: Evidence, measure: Measurements) -> None:
    cluster = machines({"node01": [(runs("container-start-many.py", "20", BASE), answer)]})
    checks.test_many_simultaneous_starts(Apptainer(cluster), Registry(cluster), evidence, measure)


@pytest.mark.seen_to_fail("CON-21")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (many(ends=[[0, "done", ""]] * 19 + [[255, "", "FATAL: x"]]), "1 of 20 .*; number 20 said 'FATAL: x'"),
        (many(ends=[[0, "done", ""]] * 19), "19 containers were started, expected 20"),
        (many(ends=[[0, "", ""]] + [[0, "done", ""]] * 19), "1 of 20 containers failed; number 1"),
        (many(at_once=17), "17 containers ran at the same time, expected 20"),
        (failed("Killed", -9), "python3 -c … 20 apptainer exec .* ended with -9: Killed"),
    ],
)  # fmt: skip
def test_starts_that_fail_or_are_not_simultaneous(evidence: Evidence, answer: Any, message: str) -> None:
    measure = new_measure()
    start(many(), evidence, measure)
    assert [(item.metric, item.samples) for item in measure.items] == [("container.start20", 20)]
    with pytest.raises(AssertionError, match=f"^node01: {message}"):
        start(answer, evidence, measure)


@pytest.mark.seen_to_fail("CON-21")
def test_starts_that_take_too_long(evidence: Evidence) -> None:
    with pytest.raises(LimitExceeded, match=r"^node01: container.start20 is 121 s"):
        start(many(seconds=121.0), evidence, new_measure())
