"""One job feeds many checks: it runs once a run, and its failure is told once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_ai_how.errors import AiHowError, StepBlocked, StepFailed
from pytest_ai_how.launch import Ended, Task
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.lease.lease import Lease
from tests.unit.suites.task042_fakes import FOLDER, FakeJob, fake_slurm
from tests.unit.suites.task043_fakes import transport


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lease]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.MonkeyPatch.context():
        found = Lease.acquire("plug", "r1")
        yield found
        found.release()


def make() -> Task:
    return Task("train", ("true",), FOLDER)


def submitted(launcher: SlurmLauncher) -> int:
    calls = transport(launcher.slurm.cluster, "controller").calls
    return sum(call.argv[0] == "sbatch" for call in calls)


def test_a_job_runs_once_for_all(lease: Lease) -> None:
    launcher = SlurmLauncher(fake_slurm([FakeJob("train", 12)]))
    first = Once(lease).job(launcher, make, "train")
    other = Once(Lease.join("plug", "r1")).job(launcher, make, "train")
    assert first == other
    assert (first.id, submitted(launcher)) == ("12", 1)


def test_who_comes_second_waits(lease: Lease) -> None:
    launcher = SlurmLauncher(fake_slurm([FakeJob("train", 12)]))

    def ask(number: int) -> Ended:
        return Once(Lease.join("plug", "r1")).job(launcher, make, "train")

    with ThreadPoolExecutor(4) as pool:
        assert len({one.id for one in pool.map(ask, range(8))}) == 1
    assert submitted(launcher) == 1


def test_a_failed_job_fails_one_check_and_blocks_the_others(lease: Lease) -> None:
    launcher = SlurmLauncher(fake_slurm([FakeJob("train", 12, state="FAILED", code=1)]))
    with pytest.raises(AssertionError, match=r"^node01: job 12 \(train\) ended as FAILED with status 1: said on stand"):
        Once(lease).job(launcher, make, "train")
    other = Once(Lease.join("plug", "r1"))
    with pytest.raises(StepBlocked, match=r"^blocked: step 'job-train' failed: node01: job 12 \(train\) ended as FAIL"):
        other.job(launcher, make, "train")
    assert submitted(launcher) == 1


def test_what_is_ours_to_cure_is_no_failure_of_the_cluster(lease: Lease) -> None:
    def broken() -> dict[str, str]:
        raise AiHowError("localhost", "no such payload")

    with pytest.raises(StepFailed, match="no such payload"):
        Once(lease).told("job-train", broken)


def test_another_run_on_the_same_machines_does_it_anew(lease: Lease) -> None:
    told = iter([{"a": "1"}, {"a": "2"}])
    assert Once(lease).told("look", lambda: next(told)) == {"a": "1"}
    assert Once(lease).told("look", lambda: next(told)) == {"a": "1"}
    lease.run_id = "r2"
    with pytest.raises(AiHowError):  # the record is still the former run's
        Once(lease).told("look", lambda: next(told))


def test_a_wait_that_is_cut_short_cancels_the_job(lease: Lease) -> None:
    slurm = fake_slurm([FakeJob("train", 12)], first=[("squeue", KeyboardInterruptOnce())])
    with pytest.raises(KeyboardInterrupt):
        Once(lease).job(SlurmLauncher(slurm), make, "train")
    said = [call.argv[:2] for call in transport(slurm.cluster, "controller").calls]
    assert said.count(("scancel", "12")) == 1
    assert said.index(("scancel", "12")) > max(n for n, argv in enumerate(said) if argv[0] in ("sbatch", "squeue"))
    assert "job-train" not in lease.record.steps, "nobody may take a job that was cancelled for one that was done"


class KeyboardInterruptOnce:
    def __call__(self, argv: tuple[str, ...]) -> str:
        raise KeyboardInterrupt
