"""The parsers on what Slurm 24.11.5 wrote (tests/data/slurm)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.services.slurm import JobRecord, NodeRecord, PartitionRecord, SacctRecord
from pytest_ai_how.services.slurm.values import ExitCode

DATA = Path(__file__).parents[2] / "data" / "slurm"
PARSERS = ["v0.0.40", "v0.0.41", "v0.0.42"]


def load(command: str, key: str, parser: str = "v0.0.42") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / f"24.11.5-{command}.{parser}.json").read_text())[key]
    assert found
    return found


@pytest.mark.parametrize("parser", PARSERS)
def test_nodes(parser: str) -> None:
    node = NodeRecord.of(load("scontrol-node", "nodes", parser)[0])
    assert (node.name, node.state, node.reason, node.version) == ("node01", "ALLOCATED", "", "24.11.5")
    assert (node.cpus, node.memory, node.gpus, node.gpus_used, node.cpus_used) == (2, 1024, 2, 1, 2)
    assert node.partitions == ("gpu", "debug")
    assert node.boot_time
    assert node.usable
    assert (node.specialized, node.for_jobs) == (0, 1024)
    # MemSpecLimit=171 of scontrol show node --json.
    assert NodeRecord.of({"name": "node01", "real_memory": 939, "specialized_memory": 171}).for_jobs == 768


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        (["IDLE"], True),
        (["MIXED", "PLANNED"], True),
        (["IDLE", "COMPLETING"], True),
        (["IDLE", "DRAIN"], False),
        (["DOWN", "NOT_RESPONDING"], False),
        (["IDLE", "NOT_RESPONDING"], False),
        (["UNKNOWN"], False),
        (["IDLE", "REBOOT_REQUESTED"], False),
        ([], False),
    ],
)
def test_which_states_are_usable(state: list[str], usable: bool) -> None:
    assert NodeRecord.of({"name": "n", "state": state}).usable is usable


def test_partitions() -> None:
    gpu, debug = (PartitionRecord.of(raw) for raw in load("scontrol-partition", "partitions"))
    assert (gpu.name, gpu.state, gpu.nodes, gpu.max_minutes) == ("gpu", "UP", ("node01", "node02"), 60)
    assert (debug.name, debug.max_minutes) == ("debug", 10)


@pytest.mark.parametrize("parser", PARSERS)
def test_jobs_of_slurmctld(parser: str) -> None:
    jobs = {job.id: job for job in map(JobRecord.of, load("scontrol-job", "jobs", parser))}
    failed, running, task = jobs[2], jobs[11], jobs[12]
    assert (failed.state, failed.reason, failed.exit, failed.final) == (
        "FAILED",
        "NonZeroExitCode",
        ExitCode(7, 0),
        True,
    )
    assert (running.state, running.final, running.nodes) == ("RUNNING", False, ("node01",))
    assert running.gres == ("gpu:sim:1(IDX:0)",)
    assert running.tres["gres/gpu"] == 1
    assert (running.array, task.array) == (None, (12, 1))
    assert task.stdout == "/mnt/shared/jobs/slurm-12_1.out"


def test_jobs_that_wait_and_jobs_that_were_killed() -> None:
    jobs = {job.id: job for job in map(JobRecord.of, load("scontrol-job", "jobs"))}
    assert (jobs[13].state, jobs[13].reason, jobs[13].nodes, jobs[13].start) == ("PENDING", "Dependency", (), None)
    assert (jobs[14].state, jobs[14].reason) == ("PENDING", "Resources")
    assert (jobs[3].state, jobs[3].exit) == ("OUT_OF_MEMORY", ExitCode(0, 125))
    assert jobs[4].exit == ExitCode(0, 9)


def test_a_completing_job_has_not_ended() -> None:
    assert not JobRecord.of({"job_id": 1, "job_state": ["COMPLETED", "COMPLETING"]}).final
    assert JobRecord.of({"job_id": 1, "job_state": ["COMPLETED"]}).final


@pytest.mark.parametrize("parser", PARSERS)
def test_jobs_of_the_accounting(parser: str) -> None:
    jobs = {job.id: job for job in map(SacctRecord.of, load("sacct", "jobs", parser))}
    failed = jobs[2]
    assert (failed.state, failed.exit, failed.final) == ("FAILED", ExitCode(7, 0), True)
    assert (failed.user, failed.account, failed.cluster, failed.partition) == ("hpc", "default", "aihowslu", "gpu")
    assert failed.tres == {"cpu": 1, "mem": 100, "node": 1, "billing": 1, "gres/gpu": 1}
    assert failed.elapsed == 2
    assert [step.id for step in failed.steps] == ["2.batch", "2.extern"]
    assert failed.steps[0].nodes == ("node01",)
    assert jobs[12].array == (12, 1)


def test_a_refused_job_in_the_accounting_has_no_start() -> None:
    jobs = {job.id: job for job in map(SacctRecord.of, load("sacct", "jobs"))}
    assert (jobs[6].state, jobs[6].start, jobs[6].nodes, jobs[6].tres) == ("FAILED", None, (), {})
    assert jobs[15].state == "CANCELLED"


def test_a_record_without_accounting_says_the_same() -> None:
    job = JobRecord.of(next(raw for raw in load("scontrol-job", "jobs") if raw["job_id"] == 2))
    record = SacctRecord.of_job(job, "aihowslu")
    assert (record.state, record.exit, record.elapsed, record.final) == ("FAILED", ExitCode(7, 0), 2, True)
