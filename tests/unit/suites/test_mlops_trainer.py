"""Training jobs: what Slurm is asked, what runs once, and what becomes of jobs that go wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.data.cache import DataError
from pytest_ai_how.errors import StepBlocked, StepFailed
from pytest_ai_how.launch import Limit
from pytest_ai_how.launch.direct import DirectLauncher
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import NodeRecord
from pytest_ai_how.services.slurm.topology import topologies
from pytest_ai_how.shell import Result
from suites.mlops import _trainer
from suites.mlops._request import Request, describe, for_one, for_topology
from suites.mlops._trained import Work
from suites.mlops._trainer import PAYLOADS, Trainer
from suites.mlops.distributed._run import Runs
from suites.mlops.training._run import request_of
from tests.fakes import WRITES, fake_cluster, written
from tests.unit.suites.mlops_fakes import DATA, REQUEST, scale
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm
from tests.unit.suites.task043_fakes import transport

MISSING = Result((), 1, "", "sha256sum: x: No such file or directory\n")
NO_FILE = Result((), 1, "", "cat: x: No such file or directory\n")
WORK = scale().section("mnist", Work)
FOLDER = "/mnt/shared/jobs/r1/mlops-r9"


def job(name: str, id: int, **values: Any) -> FakeJob:
    return FakeJob(name, id, workdir=FOLDER, **values)


def made(lease: Lease, *jobs: FakeJob, first: Rules = (), compute: Rules = ()) -> Trainer:
    """A trainer on a pretended cluster, whose jobs leave what real ones did."""
    text = {name: (DATA / f"training-{name}.json").read_text() for name in ("metrics", "ranks")}
    rules: Rules = [
        *first,
        (re.compile(r"^cat -- \S+/metrics\.json"), text["metrics"]),
        (re.compile(r"^cat -- \S+/ranks\.json"), text["ranks"]),
        *((f"cat -- {FOLDER}/{one.name}-{one.id}.{end}", said) for one in jobs for end, said in streams(one)),
        WRITES,
        ("sha256sum", MISSING),
    ]
    slurm = fake_slurm(jobs, first=rules, compute=compute)
    return Trainer(SlurmLauncher(slurm), Once(lease), slurm.cluster, "/i.sif", "r9")


def streams(one: FakeJob) -> list[tuple[str, str]]:
    return [("out", one.stdout), ("err", "ValueError: no data\nsrun: error: node01: task 0: Exited with exit code 1\n")]


def scripts(trainer: Trainer) -> list[str]:
    """The batch scripts that were handed in."""
    assert isinstance(trainer.launcher, SlurmLauncher)
    calls = transport(trainer.launcher.slurm.cluster, "controller").calls
    return [call.input.decode() for call in calls if call.argv[0] == "sbatch"]


STAGE = job("stage", 1)


def test_a_training_runs_once_and_is_read_by_all(lease: Lease) -> None:
    trainer = made(lease, STAGE, job("train", 2))
    first, again = (trainer.trained("train", WORK, REQUEST, "--tensorboard") for _ in range(2))
    assert first == again
    stage, train = scripts(trainer)
    assert f"python3 {FOLDER}/payloads/stage.py scikit-learn sklearn/datasets/data/digits.csv.gz " in stage
    assert train.splitlines()[1] == "export OMP_NUM_THREADS=1"
    assert (
        f"--bind={FOLDER} --bind=/mnt/shared/jobs/r1 --cwd={FOLDER} /i.sif python3 {FOLDER}/payloads/train.py" in train
    )
    assert train.endswith(f" --batch=16 --rate=0.002 --out={FOLDER}/train --tensorboard\n")
    assert first.metrics().accuracy > 97
    placed = {f"{FOLDER}/payloads/{path.name}": path.read_text() for path in PAYLOADS.glob("*.py")}
    assert written(trainer.cluster.controller.transport) == placed


def test_several_processes_are_started_by_torchrun_on_each_machine(lease: Lease) -> None:
    trainer = made(lease, STAGE, job("train", 2))
    trainer.trained("train", WORK, Request(1, 512, 2, ("node01", "node02"), "gpu"))
    script = scripts(trainer)[1]
    assert "srun --nodes=2 --ntasks=2 --cpus-per-task=2 --kill-on-bad-exit --mpi=none --resv-ports=2 sh -c " in script
    assert "torch.distributed.run --nnodes=" in script
    assert '--rdzv-endpoint="$AI_HOW_HEAD:$AI_HOW_PORT" --max-restarts=0 ' in script
    assert '--rdzv-conf="is_host=' in script
    assert f"python3 --nproc-per-node=2 {FOLDER}/payloads/train.py" in script


def test_a_training_that_fails_fails_one_check_and_blocks_others(lease: Lease) -> None:
    trainer = made(lease, STAGE, job("train", 2, state="FAILED", code=1))
    with pytest.raises(
        AssertionError, match=r"^node01: job 2 \(train\) ended as FAILED with status 1: ValueError: no d"
    ):
        trainer.trained("train", WORK, REQUEST)
    with pytest.raises(
        StepBlocked, match=r"^blocked: step 'mlops-train' failed: node01: job 2 \(train\) ended as FAIL"
    ):
        trainer.trained("train", WORK, REQUEST)
    assert len(scripts(trainer)) == 2


def test_data_that_cannot_be_staged_is_the_cause_for_all(lease: Lease) -> None:
    trainer = made(lease, job("stage", 1, state="FAILED", code=1))
    with pytest.raises(AssertionError, match=r"^node01: job 1 \(stage\) ended as FAILED"):
        trainer.data("digits")
    with pytest.raises(StepBlocked, match=r"step 'mlops-data-digits' failed: node01: job 1 \(stage\) ended as FAILED"):
        trainer.trained("train", WORK, REQUEST)


def test_data_that_is_staged_already_is_not_copied(lease: Lease) -> None:
    digest = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
    trainer = made(lease, first=[("sha256sum", f"{digest}  x\n")])
    assert trainer.data("digits")[0] == "/mnt/shared/jobs/r1/data-digits"
    assert scripts(trainer) == []


def test_data_that_is_not_in_the_cache_is_ours_to_get(lease: Lease) -> None:
    with pytest.raises(StepFailed, match=r"(?s)train-images-idx3-ubyte\.gz: step 'mlops-data-mnist' failed: is not there.*cache fill mnist") as caught:  # noqa: E501  # fmt: skip
        made(lease).data("mnist")
    assert isinstance(caught.value.__cause__, DataError)


def test_a_job_that_left_nothing(lease: Lease) -> None:
    trainer = made(lease, STAGE, job("train", 2), first=[(re.compile(r"^cat -- \S+/metrics\.json"), NO_FILE)])
    with pytest.raises(
        AssertionError, match=r"^node01: job 2 \(train\): ended well, and left no /mnt/.*/metrics\.json: c"
    ):
        trainer.trained("train", WORK, REQUEST)


HELD = [("test -s", ""), (re.compile(r"^cat -- \S+/held-0"), "node01 4711\n")]


def test_a_process_is_killed_where_it_is_held_and_another_job_goes_on(lease: Lease) -> None:
    jobs = (STAGE, job("killed", 5, state="FAILED", signal=9), job("killed-on", 6))
    trainer = made(lease, *jobs, first=HELD, compute=[("kill -KILL 4711", "")])
    killed, resumed = trainer.resumed("killed", WORK, REQUEST)
    assert (killed.ended.state, killed.ended.signal, resumed.ended.id) == ("FAILED", 9, "6")
    assert 0 <= killed.seconds < 10
    (kill,) = transport(trainer.cluster, "node01").calls
    assert (kill.argv, kill.user) == (("kill", "-KILL", "4711"), "hpc")
    _, held, on = scripts(trainer)
    assert held.endswith(f"--out={FOLDER}/killed --hold=3 --hold-rank=0\n")
    assert on.endswith(f"--out={FOLDER}/killed-on --resume --out={FOLDER}/killed\n")


def test_without_slurm_a_process_is_killed_where_its_launcher_is(lease: Lease) -> None:
    config = load_config("host", environ={})
    cluster = fake_cluster({"this-machine": {"kill": ""}}, config=config)
    trainer = Trainer(DirectLauncher(cluster.nodes[0], FOLDER), Once(lease), cluster, "", "r9", python="/venv/python")
    trainer._kill("what-it-calls-itself", "4711")
    (kill,) = transport(cluster, "this-machine").calls
    assert (kill.argv, kill.user) == (("kill", "-KILL", "4711"), None)


@pytest.mark.parametrize(
    ("gpus", "begins"),
    [(1, ("/venv/python", "/f/payloads/train.py")), (2, ("sh", "-c", _trainer._TORCHRUN, "/venv/python"))],
)
def test_the_interpreter_that_is_named_is_the_one_that_trains(
    lease: Lease, monkeypatch: pytest.MonkeyPatch, gpus: int, begins: tuple[str, ...]
) -> None:
    cluster = fake_cluster({"*": {"mkdir": ""}}, config=load_config("host", environ={}))
    trainer = Trainer(DirectLauncher(cluster.nodes[0], "/f"), Once(lease), cluster, "", "r9", python="/venv/python")
    monkeypatch.setattr(Trainer, "payloads", lambda self: "/f/payloads")
    monkeypatch.setattr(Trainer, "data", lambda self, name: ("/f/data", None))
    task = trainer.task("train", WORK, Request(1, 0, gpus))
    assert task.argv[: len(begins)] == begins
    assert '"$0" -m torch.distributed.run' in _trainer._TORCHRUN


def test_a_job_that_ends_before_it_can_be_killed(lease: Lease) -> None:
    trainer = made(lease, STAGE, job("killed", 5, state="FAILED", code=1), first=[("test -s", NO_FILE)])
    with pytest.raises(
        AssertionError, match=r"^job 5 \(killed\): ended before it could be killed: ValueError: no data"
    ):
        trainer.resumed("killed", WORK, REQUEST)


def test_what_a_new_process_says(lease: Lease) -> None:
    said = json.dumps({"accuracy": 97.0, "parameters": "a", "scalars": {}})
    trainer = made(lease, STAGE, job("look-train", 3, stdout=f"{said}\n"))
    assert trainer.look("train", WORK, REQUEST, "/out") == json.loads(said)
    trainer = made(lease, STAGE, job("look-other", 4, stdout="hello\n"))
    with pytest.raises(AssertionError, match="^job look-other: printed 'hello', expected a line of JSON"):
        trainer.look("other", WORK, REQUEST, "/out")


def test_memory_of_gpus_is_asked_for_only_where_they_are_real(lease: Lease) -> None:
    trainer = made(lease, compute=[("nvidia-smi", "4\n4210\n")])
    assert trainer.gpu_memory("node01") == ()
    real = Trainer(trainer.launcher, trainer.once, trainer.cluster, "", "r9", real=True)
    assert real.gpu_memory("node01") == real.gpu_memory("") == (4, 4210)


def node(name: str, **values: Any) -> NodeRecord:
    usual = {"states": ("IDLE",), "cpus": 8, "memory": 16000, "gpus": 1, "partitions": ("gpu",)}
    rest = {"reason": "", "gpus_used": 0, "cpus_used": 0, "boot_time": None, "slurmd_start": None, "version": ""}
    return NodeRecord(name=name, **{**usual, **rest, **values})


def test_requests_ask_for_no_more_than_there_is() -> None:
    small = node("a", cpus=2, memory=1024)
    assert for_one([small], 4, 8192) == Request(2, 1024, 1, ("a",), "gpu")
    assert for_one([node("a", gpus=0), node("b")], 4, 8192) == Request(4, 8192, 1, ("b",), "gpu")
    assert for_one([node("a", gpus=0)], 4, 8192).gpus == 0
    # MemSpecLimit: what Slurm keeps for the node itself is not to be had.
    assert for_one([node("a", memory=1024, specialized=171)], 4, 8192).memory == 853
    with pytest.raises(AssertionError, match="^slurm: a DOWN; expected a node that takes jobs"):
        for_one([node("a", states=("DOWN",))], 4, 8192)
    with pytest.raises(AssertionError, match="^slurm: no node; expected"):
        for_one([], 4, 8192)
    two = [node("a", cpus=4, memory=2048, gpus=2), node("b", cpus=2, memory=1024)]
    one_node, two_nodes = topologies(two)
    assert for_topology(two, one_node, 4, 32768) == Request(2, 2048, 2, ("a",), "gpu")
    assert for_topology(two, two_nodes, 4, 32768) == Request(2, 1024, 1, ("a", "b"), "gpu")
    told = describe(for_topology(two, two_nodes, 4, 32768), two, 4, 32768, Limit(10, 10)).splitlines()
    assert told[0] == "planned    4 CPUs a process, 32768 MiB a machine, 10 min"
    assert told[-1] == (
        "asked for  2 × 1 processes with 2 CPUs each, 1 GPUs and 1024 MiB a machine, on a, b, for 10 min"
    )


def test_the_report_has_the_time_that_was_asked_for_and_why_it_is_less(lease: Lease) -> None:
    """The partition gives an hour (MaxTime), of two that the plan has."""
    work = WORK.model_copy(update={"minutes": 120})
    trainer, evidence = made(lease, STAGE, job("train", 2)), Evidence()
    for attach in (
        lambda: request_of(trainer, work, evidence),
        lambda: Runs(trainer, trainer.launcher.slurm, scale(), evidence).request(work),  # type: ignore[attr-defined]
    ):
        attach()
        planned, *_, asked = evidence.items[-1].data.decode().splitlines()
        assert planned.endswith(", 120 min")
        assert asked.endswith(", for 60 min of the 120 wanted: partition gpu gives no more (MaxTime)")
    found = trainer.trained("train", work, REQUEST)
    found.attach(evidence)
    (record,) = [item.data for item in evidence.items if item.name == "job 2: record"]
    assert json.loads(record)["limit"] == "60 min of the 120 wanted: partition gpu gives no more (MaxTime)"
