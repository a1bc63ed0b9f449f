"""The checks on faults and load go red for the right reason, and green on a Slurm that does right."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites.phase6 import _slurm_time_limit, test_task042_faults, test_task042_load
from tests.unit.suites.task042_fakes import REFUSED, FakeJob, Rules, fake_slurm, new_measure, nodes_json, trace_rules


def clock(monkeypatch: pytest.MonkeyPatch, module: object, step: float) -> None:
    """Let each look at the clock in a check be ``step`` seconds after the last."""
    times = count(0.0, step)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))


DOWN = nodes_json(node01={"state": ["DOWN", "NOT_RESPONDING"], "reason": "Not responding"})


def killed_slurmd(state: str) -> tuple[list[FakeJob], list[str], Rules]:
    jobs = [FakeJob("node-fail", 5, state=state, seen=("RUNNING",)), FakeJob("after-kill", 6)]
    compute = [*trace_rules(("sleep 600", ""), ("sleep 600", ""), ("", "")), ("systemctl", "")]
    return jobs, [DOWN, nodes_json()], compute


@pytest.mark.seen_to_fail("SLU-44")
def test_a_node_that_loses_slurmd_and_not_its_job(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, nodes, compute = killed_slurmd("NODE_FAIL")
    slurm = fake_slurm(jobs, nodes=nodes, compute=compute)
    test_task042_faults.test_slurmd_killed(slurm, evidence, new_measure())
    units = [call.argv[1] for call in slurm.cluster["node01"].transport.calls if call.argv[0] == "systemctl"]  # type: ignore[attr-defined]  # a FakeTransport
    assert units == ["kill", "reset-failed", "start"]
    jobs, nodes, compute = killed_slurmd("COMPLETED")
    with pytest.raises(
        AssertionError, match=r"^job 5 \(node-fail\) on node01: ended as COMPLETED when its node went down"
    ):
        test_task042_faults.test_slurmd_killed(fake_slurm(jobs, nodes=nodes, compute=compute), evidence, new_measure())
    clock(monkeypatch, test_task042_faults, 301.0)
    jobs, nodes, compute = killed_slurmd("NODE_FAIL")
    with pytest.raises(LimitExceeded, match=r"^node01: slurm.node_recovery is 301 s"):
        test_task042_faults.test_slurmd_killed(fake_slurm(jobs, nodes=nodes, compute=compute), evidence, new_measure())


PIDS = ["MainPID=73\nActiveState=active\n", "MainPID=99\nActiveState=active\n"]


def restarted(pids: list[str]) -> Rules:
    return [("systemctl restart slurmctld", ""), ("systemctl show", pids)]


def survivors(said: str = "started\nended\n", starts: tuple[int, int] = (100, 100)) -> list[FakeJob]:
    return [
        FakeJob("survivor", 1, said, seen=("RUNNING", "RUNNING"), start_seen=starts),
        FakeJob("queued", 2, seen=("PENDING", "PENDING")),
    ]


@pytest.mark.seen_to_fail("SLU-45")
def test_a_restart_that_loses_jobs(evidence: Evidence) -> None:
    check = test_task042_faults.test_slurmctld_restart
    check(fake_slurm(survivors(), first=restarted(PIDS)), evidence)
    with pytest.raises(
        AssertionError, match=r"^job 1: RUNNING since 100 before slurmctld restarted, RUNNING since 130"
    ):
        check(fake_slurm(survivors(starts=(100, 130)), first=restarted(PIDS)), evidence)
    with pytest.raises(AssertionError, match=r"^job 1 \(survivor\) on node01: said 'started\\nstarted\\nended\\n'"):
        check(fake_slurm(survivors("started\nstarted\nended\n"), first=restarted(PIDS)), evidence)
    with pytest.raises(AssertionError, match=r"^controller: slurmctld was not restarted"):
        check(fake_slurm(survivors(), first=restarted(PIDS[:1])), evidence)


def boots(*starts: int) -> Rules:
    stat = [f"3f9a-boot-id\n1 (systemd) S {' '.join(['0'] * 18)} {start} 0\n" for start in starts]
    return [("systemctl reboot", ""), ("cat /proc/sys/kernel/random/boot_id", stat)]


def slurmd(since: int, **changes: object) -> str:
    return nodes_json(node01={"slurmd_start_time": {"set": True, "number": since}} | changes)


@pytest.mark.seen_to_fail("SLU-46")
def test_a_node_that_does_not_come_back_by_itself(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    check, after = test_task042_faults.test_node_reboot, [FakeJob("after-reboot", 7)]
    right = [slurmd(100), slurmd(100), slurmd(200)]
    check(fake_slurm(after, nodes=right, compute=boots(500, 500, 900)), evidence, new_measure())
    noted = [slurmd(100), slurmd(200, reason="Node unexpectedly rebooted")]
    with pytest.raises(
        AssertionError, match=r"^node01: usable after its reboot, but with the reason 'Node unexpectedly re"
    ):
        check(fake_slurm(after, nodes=noted, compute=boots(500, 900)), evidence, new_measure())
    monkeypatch.setattr(test_task042_faults, "REBOOT_SECONDS", 0.3)
    with pytest.raises(AssertionError, match=r"^node01: not booted anew within 0.3 s"):
        check(fake_slurm(after, nodes=right, compute=boots(500)), evidence, new_measure())
    drained = [slurmd(100), slurmd(200, state=["DOWN"], reason="Node unexpectedly rebooted")]
    with pytest.raises(
        AssertionError, match=r"^node01: not usable with a new slurmd within 0.3 s; last seen: DOWN, reason"
    ):
        check(fake_slurm(after, nodes=drained, compute=boots(500, 900)), evidence, new_measure())


def many(lost: int = 0) -> tuple[list[FakeJob], Rules]:
    jobs = [FakeJob("short", n, state="FAILED" if n <= lost else "COMPLETED") for n in range(1, 101)]
    return jobs, [("sh -s -- 100", "".join(f"{job.id}\n" for job in jobs))]


@pytest.mark.seen_to_fail("SLU-47")
def test_short_jobs_that_are_lost(evidence: Evidence) -> None:
    check = test_task042_load.test_many_short_jobs
    jobs, submitted = many()
    check(fake_slurm(jobs, first=submitted), evidence, new_measure())
    jobs, submitted = many(lost=2)
    with pytest.raises(LimitExceeded, match=r"^slurm.short_jobs_completed is 98 %"):
        check(fake_slurm(jobs, first=submitted), evidence, new_measure())
    half: Rules = [("sh -s -- 100", "".join(f"{n}\n" for n in range(1, 51)))]
    with pytest.raises(LimitExceeded, match=r"^slurm.short_jobs_completed is 50 %"):
        check(fake_slurm(many()[0], first=half), evidence, new_measure())
    refused: Rules = [("sh", Result((), 1, stderr="sbatch: error: Slurm temporarily unable to accept job\n"))]
    with pytest.raises(AssertionError, match=r"^controller: no job was accepted: sbatch: error: Slurm temporarily"):
        check(fake_slurm(first=refused), evidence, new_measure())


def late(seconds: float) -> list[FakeJob]:
    return [FakeJob("latency", n, f"{1795449000.5 + seconds}\n") for n in range(1, 6)]


@pytest.mark.seen_to_fail("SLU-48")
def test_jobs_that_start_late(evidence: Evidence) -> None:
    check = test_task042_load.test_submit_to_start
    check(fake_slurm(late(0.3)), evidence, new_measure())
    with pytest.raises(LimitExceeded, match=r"^slurm.submit_to_start is 6.5 s"):
        check(fake_slurm(late(6.5)), evidence, new_measure())
    with pytest.raises(AssertionError, match=r"^job 5 \(latency\) on node01: started 2.000 s before it was submitted"):
        check(fake_slurm(late(-2.0)), evidence, new_measure())


def limited(state: str = "TIMEOUT", seconds: int = 61, **more: object) -> FakeJob:
    return FakeJob("time-limit", 3, state=state, times=(100, 100, 100 + seconds), **more)  # type: ignore[arg-type]  # the fields are the tests' own


@pytest.mark.seen_to_fail("SLU-18")
def test_a_time_limit_that_is_not_kept(evidence: Evidence) -> None:
    check = test_task042_load.test_time_limit
    check(fake_slurm([limited()]), evidence)
    with pytest.raises(
        AssertionError, match=r"^job 3 \(time-limit\) on node01: ended as COMPLETED \(0:0\), expected TIMEO"
    ):
        check(fake_slurm([limited("COMPLETED", 600)]), evidence)
    with pytest.raises(
        AssertionError, match=r"^job 3 \(time-limit\) on node01: was ended after 20 s, before its limit of"
    ):
        check(fake_slurm([limited(seconds=20)]), evidence)
    with pytest.raises(AssertionError, match=r"^controller: sbatch refused job 'time-limit'"):
        check(fake_slurm(first=[("sbatch", REFUSED)]), evidence)


def test_the_time_limit_job_is_begun_once() -> None:
    def submissions(job: FakeJob) -> list[str]:
        slurm = fake_slurm([job])
        assert _slurm_time_limit.time_limit_job(slurm) == 3
        calls = slurm.cluster.controller.transport.calls  # type: ignore[attr-defined]  # a FakeTransport
        return [call.argv[0] for call in calls if call.argv[0] == "sbatch"]

    assert submissions(limited("RUNNING")) == []
    assert submissions(limited("RUNNING", workdir="/mnt/shared/jobs/another-run")) == ["sbatch"]
