"""Jobs by Slurm: what it is asked, and what its records become."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_ai_how.errors import DeadlineExceeded, FileError
from pytest_ai_how.launch import Ended, JobFailed, Task, completed, why
from pytest_ai_how.launch.protocol import run
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from tests.fakes import WRITES, written
from tests.unit.suites.task042_fakes import FOLDER, REFUSED, FakeJob, fake_slurm
from tests.unit.suites.task043_fakes import transport

TASK = Task(
    "train", ("python3", "t.py", "a b"), FOLDER, image="/i.sif", nodes=2, cpus=2, gpus=1, memory=700, minutes=3,
    env={"SEED": "1 2"}, on=("node01", "node02"), partition="gpu", port=True,
)  # fmt: skip
JOB = FakeJob("train", 12, nodes="node[01-02]", tres={"cpu": 4, "gres/gpu": 2})


def asked(slurm: Slurm, word: str) -> tuple[tuple[str, ...], str]:
    (call,) = (call for call in transport(slurm.cluster, "controller").calls if call.argv[0] == word)
    return call.argv, call.input.decode()


def test_what_slurm_is_asked() -> None:
    slurm = fake_slurm([JOB])
    job = SlurmLauncher(slurm, nv=True).start(TASK)
    argv, script = asked(slurm, "sbatch")
    assert set(argv) >= {
        "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--gres=gpu:1", "--mem=700M",
        "--time=3", "--nodelist=node01,node02", "--partition=gpu", "--no-requeue", f"--chdir={FOLDER}",
        f"--output={FOLDER}/train-%j.out", f"--error={FOLDER}/train-%j.err",
    }  # fmt: skip
    assert script.startswith("#!/bin/sh\nexport 'SEED=1 2'\nexec srun --nodes=2 --ntasks=2 --cpus-per-task=2 ")
    assert "--kill-on-bad-exit --mpi=none --resv-ports=2 sh -c " in script
    assert script.endswith(f" exec --nv --bind={FOLDER} --cwd={FOLDER} /i.sif python3 t.py 'a b'\n")
    assert (job.id, job.stdout, job.stderr) == ("12", f"{FOLDER}/train-12.out", f"{FOLDER}/train-12.err")


def test_files_are_written_on_the_controller_by_the_job_user() -> None:
    slurm = fake_slurm(first=[WRITES])
    SlurmLauncher(slurm).write(f"{FOLDER}/in", b"x")
    found = transport(slurm.cluster, "controller")
    assert (written(found), found.calls[-1].user) == ({f"{FOLDER}/in": "x"}, slurm.user)
    refused = fake_slurm(first=[(WRITES[0], Result((), 1, stderr="sh: 2: cannot create /x: Permission denied\n"))])
    with pytest.raises(FileError, match=r"^controller: /x could not be written: sh: 2: cannot create /x: Permission d"):
        SlurmLauncher(refused).write("/x", "x")


def test_a_job_that_asks_for_little_names_little() -> None:
    slurm = fake_slurm([JOB])
    SlurmLauncher(slurm, nv=True).start(Task("train", ("true",), FOLDER))
    argv, script = asked(slurm, "sbatch")
    assert not [word for word in argv if word.startswith(("--gres", "--mem", "--nodelist", "--partition"))]
    assert script == "#!/bin/sh\nexec srun --nodes=1 --ntasks=1 --cpus-per-task=1 --kill-on-bad-exit --mpi=none true\n"


@pytest.mark.parametrize(("partition", "minutes"), [("gpu", 60), ("", 120), ("gone", 120)])
def test_a_job_asks_for_no_more_time_than_its_partition_gives(partition: str, minutes: int) -> None:
    """Slurm takes a job that wants more, and keeps it: PENDING, reason PartitionTimeLimit."""
    slurm = fake_slurm([JOB])
    ended = run(SlurmLauncher(slurm), replace(TASK, minutes=120, partition=partition), within=5)
    argv, _ = asked(slurm, "sbatch")
    assert f"--time={minutes}" in argv
    less = " of the 120 wanted: partition gpu gives no more (MaxTime)" if minutes < 120 else ""
    assert ended.limit == f"{minutes} min{less}"


def test_a_job_whose_time_was_cut_and_is_over_says_so() -> None:
    slurm = fake_slurm([FakeJob("train", 12, state="TIMEOUT")])
    ended = run(SlurmLauncher(slurm), replace(TASK, minutes=120), within=5)
    with pytest.raises(JobFailed) as caught:
        completed(ended, "")
    assert "expected: COMPLETED with status 0 within 60 min of the 120 wanted: partition gpu gives" in str(caught.value)


def test_a_job_that_will_never_start_is_not_waited_for() -> None:
    pending = "12|12|PENDING|PartitionTimeLimit\n"
    slurm = fake_slurm([JOB], first=[("squeue", pending)])
    with pytest.raises(JobFailed) as caught:
        run(SlurmLauncher(slurm), TASK, within=600)
    assert str(caught.value).splitlines() == [
        "job 12: train: PENDING, reason PartitionTimeLimit: will never start",
        "  expected: less than what the partition gives",
        "  do: compare `scontrol show job` with `scontrol show partition` and `sacctmgr show qos`",
    ]
    assert [call.argv[1] for call in transport(slurm.cluster, "controller").calls if call.argv[0] == "scancel"]


def test_what_becomes_of_it() -> None:
    slurm = fake_slurm([JOB])
    ended = run(SlurmLauncher(slurm), TASK, within=5)
    assert ended.ok
    assert (ended.id, ended.nodes, ended.elapsed) == ("12", ("node01", "node02"), 1.0)
    assert ended.tres["gres/gpu"] == 2
    assert (ended.submitted, ended.started, ended.ended) == (1795449000.0, 1795449000.0, 1795449001.0)
    assert Ended.from_json(ended.to_json()) == ended
    assert json.loads(ended.to_json())["state"] == "COMPLETED"


def test_a_step_that_ran_out_of_memory() -> None:
    step = {"step": {"id": "12.0"}, "state": ["OUT_OF_MEMORY"], "exit_code": 1, "nodes": {"list": ["node01"]}}
    slurm = fake_slurm([FakeJob("train", 12, state="FAILED", code=1, record={"steps": [step]})])
    ended = run(SlurmLauncher(slurm), TASK, within=5)
    assert (ended.state, ended.status, ended.ok) == ("OUT_OF_MEMORY", 1, False)


def test_a_refusal_is_the_clusters() -> None:
    slurm = fake_slurm(first=[("sbatch", REFUSED)])
    with pytest.raises(
        JobFailed, match=r"^controller: sbatch refused job train: sbatch: error: Batch job submission f"
    ):
        SlurmLauncher(slurm).start(TASK)


def test_a_job_that_does_not_end_is_cancelled() -> None:
    slurm = fake_slurm([FakeJob("train", 12, state="RUNNING", seen=("RUNNING",))])
    found = SlurmLauncher(slurm)
    job = found.start(TASK)
    with pytest.raises(JobFailed, match=r"^job 12: train: not ended within 0\.1 s; last seen: 12 RUNNING") as caught:
        found.ended(job, within=0.1)
    assert isinstance(caught.value.__cause__, DeadlineExceeded)
    assert asked(slurm, "scancel")[0] == ("scancel", "12")


def test_where_it_runs() -> None:
    for state, nodes in (("RUNNING", ("node01", "node02")), ("PENDING", ()), ("COMPLETED", ())):
        slurm = fake_slurm([FakeJob("train", 12, state=state, seen=(state,), nodes="node[01-02]")])
        found = SlurmLauncher(slurm)
        job = found.start(TASK)
        assert (found.running(job), found.over(job)) == (nodes, state == "COMPLETED")


@pytest.mark.parametrize(
    "changes",
    [{"name": "Train"}, {"argv": ()}, {"folder": "here"}, {"nodes": 0}, {"gpus": -1}, {"env": {"A-B": "1"}}],
)
def test_tasks_that_nobody_could_start(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"job|'Train'"):
        Task(**{"name": "train", "argv": ("true",), "folder": "/x", **changes})  # type: ignore[arg-type]


def test_why() -> None:
    assert why("") == "nothing on standard error"
    assert why("FATAL:   no image\nsrun: error: node01: task 0: Exited") == "FATAL:   no image"
    assert why("\x1b[31mKeyError: 'x'\x1b[0m\nslurmstepd-node01: error: *** STEP 7.0\n") == "KeyError: 'x'"
    assert why("srun: error: all gone\nsrun: Terminating StepId=4.0\n") == "srun: error: all gone"
