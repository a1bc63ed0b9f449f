"""The checks on confinement go red for the right reason, and green on a Slurm that does right."""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.capabilities import declared_absent
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites.phase6 import test_task042_confinement as checks
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm, new_measure, nodes_json, trace_rules

HOSTNAME: Rules = [("srun", ["node01\n", "node02\n"])]


@pytest.mark.seen_to_fail("SLU-19")
def test_a_memory_limit_that_does_not_hold(evidence: Evidence) -> None:
    killed = FakeJob("oom", 3, state="OUT_OF_MEMORY", signal=125)
    other = FakeJob("oom", 4, state="OUT_OF_MEMORY", signal=125, nodes="node02")
    checks.test_memory_limit(fake_slurm([killed, other], first=HOSTNAME), evidence)
    beyond = FakeJob("oom", 4, "filled 268435456\nintact\n", nodes="node02")
    with pytest.raises(AssertionError, match=r"^job 4 \(oom\) on node02: filled 256 MiB .* ended as COMPLETED"):
        checks.test_memory_limit(fake_slurm([killed, beyond], first=HOSTNAME), evidence)
    with pytest.raises(AssertionError, match=r"^job 3 \(oom\) on node01: asked for node02 and ran elsewhere"):
        checks.test_memory_limit(fake_slurm([killed], first=HOSTNAME), evidence)
    free = FakeJob("oom", 3, "filled 268435456\nintact\n")
    with pytest.raises(
        AssertionError, match=r"^job 3 \(oom\) on node01: filled 256 MiB with --mem=64M and ended as COMPLE"
    ):
        checks.test_memory_limit(fake_slurm([free], first=HOSTNAME), evidence)
    drained = nodes_json(node01={"state": ["IDLE", "DRAIN"], "reason": "Kill task failed"})
    with pytest.raises(
        AssertionError, match=r"^node01: IDLE\+DRAIN after a job ran out of memory, reason 'Kill task fail"
    ):
        checks.test_memory_limit(fake_slurm([killed], first=HOSTNAME, nodes=drained), evidence)
    with pytest.raises(AssertionError, match=r"^node01: answers no srun after a job ran out of memory"):
        checks.test_memory_limit(fake_slurm([killed], first=[("srun", Result((), 1, stderr="down"))]), evidence)


def burnt(
    name: str, id: int, affinity: list[int], cpu: float, reachable: list[int] | None = None, nodes: str = "node01"
) -> FakeJob:
    said = {
        "affinity": affinity,
        "reachable": reachable or affinity,
        "processes": 3,
        "cpu_seconds": cpu,
        "wall_seconds": 1.0,
    }
    return FakeJob(name, id, json.dumps(said), nodes=nodes)


@pytest.mark.seen_to_fail("SLU-36")
def test_a_job_that_takes_more_cpus_than_it_got(evidence: Evidence) -> None:
    whole = [burnt("cpu-2", 2, [0, 1], 1.9), burnt("cpu-2", 4, [0, 1], 1.9, nodes="node02")]
    right = burnt("cpu-1", 3, [1], 0.95, nodes="node02")

    def run(first: FakeJob, outside: float = 0.95, second: FakeJob = right) -> None:
        said: Rules = [
            ("taskset --cpu-list 0,1", json.dumps({"cpu_seconds": 1.9, "wall_seconds": 1.0})),
            ("taskset", json.dumps({"cpu_seconds": outside, "wall_seconds": 1.0})),
        ]
        checks.test_cpu_confinement(fake_slurm([first, second, *whole], compute=said), evidence, new_measure())

    run(burnt("cpu-1", 1, [0], 0.99))
    run(burnt("cpu-1", 1, [0], 0.4), outside=0.5)
    with pytest.raises(AssertionError, match=r"^node02: job 3 with 1 CPUs may run on \[0, 1\], expected 1 of 2; do:"):
        run(burnt("cpu-1", 1, [0], 0.99), second=burnt("cpu-1", 3, [0, 1], 1.9, nodes="node02"))
    with pytest.raises(AssertionError, match=r"^node01: job 1 with 1 CPUs may run on \[0, 1\], expected 1 of 2; do:"):
        run(burnt("cpu-1", 1, [0, 1], 1.9))
    with pytest.raises(
        AssertionError, match=r"^node01: job 1 with 1 CPUs was put on \[0\] and got itself onto \[0, 1\]"
    ):
        run(burnt("cpu-1", 1, [0], 0.99, reachable=[0, 1]))
    with pytest.raises(LimitExceeded, match=r"^node01: slurm.cpu_share is 1.9 fraction"):
        run(burnt("cpu-1", 1, [0], 1.9))
    with pytest.raises(LimitExceeded, match=r"^node01: slurm.cpu_share is 0.1 fraction"):
        run(burnt("cpu-1", 1, [0], 0.1))


@pytest.mark.seen_to_fail("SLU-36")
def test_nodes_on_which_no_job_can_be_kept_off_a_cpu(evidence: Evidence) -> None:
    """With one CPU each, every job fits what it has, and ConstrainCores may be off."""
    jobs = [burnt("cpu-1", 1, [0], 0.95), burnt("cpu-1", 3, [0], 0.95, nodes="node02")]
    one: dict[str, int] = {"cpus": 1}
    said: Rules = [("taskset", json.dumps({"cpu_seconds": 0.95, "wall_seconds": 1.0}))]

    def run(nodes: str, *more: FakeJob) -> None:
        checks.test_cpu_confinement(fake_slurm([*jobs, *more], compute=said, nodes=nodes), evidence, new_measure())

    with pytest.raises(
        AssertionError, match=r"^node01: Slurm gives it 1 CPU, and no compute node more, so that no two .*; do: com"
    ):
        run(nodes_json(node01=one, node02=one))
    whole = burnt("cpu-2", 4, [0, 1], 1.9, nodes="node02")
    jobs[1] = burnt("cpu-1", 3, [0], 0.95, reachable=[0, 1], nodes="node02")
    with pytest.raises(
        AssertionError, match=r"^node02: job 3 with 1 CPUs was put on \[0\] and got itself onto \[0, 1\]"
    ):
        run(nodes_json(node01=one), whole)


@pytest.mark.parametrize("row", ["SLU-25", "SLU-36", "SLU-37"])
def test_what_two_jobs_of_a_node_show_is_not_claimed_where_nodes_have_one_cpu_each(row: str) -> None:
    needs = set(load_catalogue()[row].requires)
    assert needs & declared_absent(load_config("beegfs", environ={})).keys() == {"cpus.several"}
    assert not needs & declared_absent(load_config("local", environ={})).keys()


def pair(greedy: str = "OUT_OF_MEMORY", beside: str = "RUNNING", said: str = "intact") -> list[FakeJob]:
    return [
        FakeJob("mem-neighbour", 1, f"filled 67108864\n{said}\n", seen=("RUNNING", beside)),
        FakeJob("mem-greedy", 2, state=greedy),
    ]


@pytest.mark.seen_to_fail("SLU-37")
def test_a_neighbour_that_suffers(evidence: Evidence) -> None:
    checks.test_memory_confinement(fake_slurm(pair()), evidence)
    with pytest.raises(AssertionError, match=r"^job 2 \(mem-greedy\) on node01: filled 256 MiB .* ended as COMPLETED"):
        checks.test_memory_confinement(fake_slurm(pair(greedy="COMPLETED")), evidence)
    with pytest.raises(
        AssertionError, match=r"^job 1 \(mem-neighbour\) on node01: was OUT_OF_MEMORY when its greedy neig"
    ):
        checks.test_memory_confinement(fake_slurm(pair(beside="OUT_OF_MEMORY")), evidence)
    with pytest.raises(AssertionError, match=r"^job 1 \(mem-neighbour\) on node01: its memory was \['changed'\]"):
        checks.test_memory_confinement(fake_slurm(pair(said="changed")), evidence)


@pytest.mark.seen_to_fail("SLU-39")
def test_a_daemon_or_a_cgroup_that_stays(evidence: Evidence) -> None:
    lingering = FakeJob("linger", 9, seen=("RUNNING",))
    running, cgroup = "sleep 600", "/sys/fs/cgroup/freezer/slurm_node01/uid_1000/job_9"

    def look(*last: tuple[str, str]) -> Rules:
        return trace_rules((running, cgroup), (running, cgroup), *last)

    checks.test_nothing_is_left_after_a_job(fake_slurm([lingering], compute=look(("", ""))), evidence)
    with pytest.raises(AssertionError, match=r"^node01: job 9 has ended and left 77 sleep 600; expected nothing"):
        checks.test_nothing_is_left_after_a_job(fake_slurm([lingering], compute=look((running, ""))), evidence)
    with pytest.raises(
        AssertionError, match=r"^node01: job 9 has ended and left /sys/fs/cgroup/freezer/slurm_node01/uid"
    ):
        checks.test_nothing_is_left_after_a_job(fake_slurm([lingering], compute=look(("", cgroup))), evidence)
    blind = trace_rules((running, ""))
    with pytest.raises(AssertionError, match=r"^node01: job 9 runs, but has no cgroup there; nothing to compare"):
        checks.test_nothing_is_left_after_a_job(fake_slurm([lingering], compute=blind), evidence)


@pytest.mark.seen_to_fail("SLU-40")
def test_a_prolog_or_epilog_that_did_not_run(evidence: Evidence) -> None:
    jobs = [FakeJob("prolog", 8), FakeJob("prolog", 9, nodes="node02")]
    line = "2026-11-23T15:48:32Z prolog job=8 user=hpc node=node01\n"
    ran: Rules = [("grep -wF job=8", line), ("grep -wF job=9", line.replace("=8", "=9"))]
    checks.test_prolog_and_epilog_ran(fake_slurm(jobs, compute=ran), evidence)
    with pytest.raises(AssertionError, match=r"^node02: /var/log/slurm/prolog.log has 0 lines for job 9, expected one"):
        checks.test_prolog_and_epilog_ran(
            fake_slurm(jobs, compute=[ran[0], ("grep -wF job=9", Result((), 1))]), evidence
        )
    never: Rules = [(("grep", "-wF", "job=8", "/var/log/slurm/epilog.log"), Result((), 1)), *ran]
    with pytest.raises(AssertionError, match=r"^node01: /var/log/slurm/epilog.log has 0 lines for job 8, expected one"):
        checks.test_prolog_and_epilog_ran(fake_slurm(jobs, compute=never), evidence)
    twice: Rules = [("grep -wF job=8", line * 2)]
    with pytest.raises(AssertionError, match=r"^node01: /var/log/slurm/prolog.log has 2 lines for job 8, expected one"):
        checks.test_prolog_and_epilog_ran(fake_slurm(jobs, compute=twice), evidence)
