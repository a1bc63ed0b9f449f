"""The checks on jobs go red for the right reason, and green on a Slurm that does right."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites.phase6 import test_task042_jobs as checks
from tests.unit.suites.task042_fakes import (
    REFUSED,
    FakeJob,
    Rules,
    fake_slurm,
    new_measure,
    nodes_json,
    trace_rules,
)


@pytest.mark.seen_to_fail("SLU-08")
def test_a_drained_node_and_an_unknown_node(evidence: Evidence) -> None:
    checks.test_all_nodes_are_idle_or_mixed(fake_slurm(), evidence)
    drained = nodes_json(node02={"state": ["IDLE", "DRAIN"], "reason": "gres/gpu count reported lower"})
    with pytest.raises(
        AssertionError, match=r"^node02: state IDLE\+DRAIN, reason 'gres/gpu count reported lower'; exp"
    ):
        checks.test_all_nodes_are_idle_or_mixed(fake_slurm(nodes=drained), evidence)
    with pytest.raises(AssertionError, match=r"^node02: slurmctld does not know this node"):
        checks.test_all_nodes_are_idle_or_mixed(fake_slurm(nodes=nodes_json(node02={"name": "node99"})), evidence)


@pytest.mark.seen_to_fail("SLU-12")
def test_a_node_that_srun_does_not_reach(evidence: Evidence) -> None:
    right: Rules = [
        (re.compile("^srun --nodelist=node01"), "node01\n"),
        (re.compile("^srun --nodelist=node02"), "node02\n"),
    ]
    checks.test_srun_reaches_each_node(fake_slurm(first=right), evidence)
    swapped: Rules = [right[0], ("srun", "node01\n")]
    with pytest.raises(AssertionError, match=r"^node02: srun hostname answered 'node01', expected 'node02'"):
        checks.test_srun_reaches_each_node(fake_slurm(first=swapped), evidence)
    down = Result((), 1, stderr="srun: error: Unable to allocate resources: Required node not available\n")
    with pytest.raises(AssertionError, match=r"^node02: srun hostname ended with 1: srun: error: Unable to allocate"):
        checks.test_srun_reaches_each_node(fake_slurm(first=[right[0], ("srun", down)]), evidence)


@pytest.mark.seen_to_fail("SLU-13")
def test_a_job_whose_record_is_not_that_of_its_life(evidence: Evidence) -> None:
    life = FakeJob("life", 7, seen=("PENDING", "RUNNING", "COMPLETED"))
    checks.test_a_job_lives_from_pending_to_completed(fake_slurm([life]), evidence)
    failed = FakeJob("life", 7, seen=("PENDING", "RUNNING"), state="NODE_FAIL")
    with pytest.raises(AssertionError, match=r"^job 7 \(life\) on node01: ended as NODE_FAIL with exit 0:0, expected"):
        checks.test_a_job_lives_from_pending_to_completed(fake_slurm([failed]), evidence)
    never = FakeJob("life", 7, seen=("PENDING", "CANCELLED"))
    with pytest.raises(AssertionError, match=r"^job 7: ended as CANCELLED"):
        checks.test_a_job_lives_from_pending_to_completed(fake_slurm([never]), evidence)
    backwards = FakeJob("life", 7, seen=("PENDING", "RUNNING"), times=(1795449000, 1795448990, 1795449001))
    with pytest.raises(
        AssertionError, match=r"^job 7 .*: the accounting has submit, start and end as \(1795449000, 179"
    ):
        checks.test_a_job_lives_from_pending_to_completed(fake_slurm([backwards]), evidence)


EXITS = [FakeJob("exit", 1), FakeJob("exit", 2, state="FAILED", code=7), FakeJob("exit", 3, state="FAILED", signal=9)]
SRUNS: Rules = [
    (re.compile("^srun .*exit 7$"), Result((), 7)),
    (re.compile("^srun .*kill"), Result((), 137)),
    ("srun", ""),
]


@pytest.mark.seen_to_fail("SLU-14")
def test_an_exit_code_that_is_lost(evidence: Evidence) -> None:
    checks.test_exit_codes_and_signals_arrive(fake_slurm(EXITS, first=SRUNS), evidence)
    lost = [EXITS[0], FakeJob("exit", 2), EXITS[2]]
    with pytest.raises(
        AssertionError, match=r"^job 2 \(exit\) on node01: `exit 7` is COMPLETED with 0:0 .* FAILED with 7"
    ):
        checks.test_exit_codes_and_signals_arrive(fake_slurm(lost, first=SRUNS), evidence)
    with pytest.raises(AssertionError, match=r"^controller: srun ended with 0 for `exit 7`, expected 7"):
        checks.test_exit_codes_and_signals_arrive(fake_slurm(EXITS, first=[("srun", "")]), evidence)


@pytest.mark.seen_to_fail("SLU-15")
def test_output_that_is_wrong_or_missing(evidence: Evidence) -> None:
    where = "/mnt/shared/jobs/r1"

    def files(out: str | Result, err: str) -> Rules:
        return [
            (("cat", "--", f"{where}/streams.out"), out),
            (("cat", "--", f"{where}/streams.err"), err),
            (("cat", "--", f"{where}/work dir/made"), "here"),
        ]

    job = FakeJob("streams", 5)
    right = f"{where}/work dir\nto out\n"
    checks.test_output_files_and_working_directory(fake_slurm([job], first=files(right, "to err\n")), evidence)
    with pytest.raises(AssertionError, match=r"^job 5 .*streams.err holds '', expected 'to err\\n'"):
        checks.test_output_files_and_working_directory(fake_slurm([job], first=files(right, "")), evidence)
    with pytest.raises(AssertionError, match=r"^job 5 .*streams.out holds '/tmp\\nto out\\n', expected '/mnt/shared"):
        checks.test_output_files_and_working_directory(
            fake_slurm([job], first=files("/tmp\nto out\n", "to err\n")), evidence
        )
    missing = Result((), 1, stderr="cat: No such file or directory\n")
    with pytest.raises(AssertionError, match=r"^job 5 .*streams.out holds 'unreadable: cat: No such file"):
        checks.test_output_files_and_working_directory(fake_slurm([job], first=files(missing, "to err\n")), evidence)


@pytest.mark.seen_to_fail("SLU-16")
def test_an_environment_that_leaks(evidence: Evidence) -> None:
    parent, child = "AIHOW_PARENT=from the caller\n", "AIHOW_CHILD=named\n"
    right: Rules = [
        (re.compile("--export=ALL,AIHOW"), f"SLURM_JOB_ID=1\n{parent}{child}"),
        (re.compile("--export=ALL"), f"SLURM_JOB_ID=1\n{parent}"),
        (re.compile("--export=NONE"), "SLURM_JOB_ID=1\n"),
        (re.compile("--export=AIHOW"), f"SLURM_JOB_ID=1\n{child}"),
    ]
    checks.test_environment_and_export(fake_slurm(first=right), evidence)
    leaking: Rules = [*right[:2], (right[2][0], f"SLURM_JOB_ID=1\n{parent}")]
    with pytest.raises(
        AssertionError, match=r"^controller: srun --export=NONE gave the job \['AIHOW_PARENT=from the cal"
    ):
        checks.test_environment_and_export(fake_slurm(first=leaking), evidence)
    with pytest.raises(AssertionError, match=r"^controller: srun --export=ALL env ended with 0 and no SLURM_JOB_ID"):
        checks.test_environment_and_export(fake_slurm(first=[("env", "")]), evidence)


def cancelled(state: str = "CANCELLED") -> list[FakeJob]:
    return [
        FakeJob("cancel-held", 4, state="CANCELLED", nodes="None assigned"),
        FakeJob("cancel-run", 5, state=state, seen=("RUNNING",)),
    ]


@pytest.mark.seen_to_fail("SLU-17")
def test_a_cancelled_job_that_leaves_processes(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = trace_rules(("sleep 600", ""), ("sleep 600", ""), ("", ""))
    checks.test_cancel_pending_and_running(fake_slurm(cancelled(), compute=gone), evidence, new_measure())
    stays = trace_rules(("sleep 600", ""))
    with pytest.raises(AssertionError, match=r"^node01: of the cancelled job 5 is left: 77 sleep 600"):
        checks.test_cancel_pending_and_running(fake_slurm(cancelled(), compute=stays), evidence, new_measure())
    gone = trace_rules(("sleep 600", ""), ("sleep 600", ""), ("", ""))
    with pytest.raises(
        AssertionError, match=r"^job 5 \(cancel-run\) on node01: ended as COMPLETED, expected CANCELLED"
    ):
        checks.test_cancel_pending_and_running(
            fake_slurm(cancelled("COMPLETED"), compute=gone), evidence, new_measure()
        )
    gone = trace_rules(("sleep 600", ""), ("sleep 600", ""), ("", ""))
    clock = iter((0.0, 20.0))
    monkeypatch.setattr(checks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(LimitExceeded, match=r"^slurm.cancel is 20 s"):
        checks.test_cancel_pending_and_running(fake_slurm(cancelled(), compute=gone), evidence, new_measure())


def array(**last: object) -> list[FakeJob]:
    tasks = [FakeJob("array", 10 + n, f"task={n}\n", array=(10, n), times=(100, 100, 105)) for n in range(4)]
    after = {"name": "after", "id": 20, "times": (100, 105, 106)} | last
    return [
        *tasks,
        FakeJob("failing", 21, state="FAILED", code=1),
        FakeJob(**after),  # type: ignore[arg-type]  # the fields are the tests' own
        FakeJob("rescue", 22),
        FakeJob("never", 23, state="PENDING", reason="DependencyNeverSatisfied"),
    ]


@pytest.mark.seen_to_fail("SLU-20")
def test_dependencies_that_are_not_kept(evidence: Evidence) -> None:
    right = array()
    checks.test_arrays_and_dependencies(fake_slurm(right), evidence)
    early = array(times=(100, 102, 103))
    with pytest.raises(
        AssertionError, match=r"^job 20 \(after\) on node01: started at 102, before the array ended at 105"
    ):
        checks.test_arrays_and_dependencies(fake_slurm(early), evidence)
    lost = [job for job in array() if job.array != (10, 3)]
    with pytest.raises(
        AssertionError, match=r"^job 10: the array's tasks said \['task=0', 'task=1', 'task=2'\], expected"
    ):
        checks.test_arrays_and_dependencies(fake_slurm(lost), evidence)
    ran = [job for job in array() if job.name != "never"] + [FakeJob("never", 23)]
    with pytest.raises(AssertionError, match=r"^job 23: depends on the success of a failed job and is COMPLETED"):
        checks.test_arrays_and_dependencies(fake_slurm(ran), evidence)


def over_nodes(id: int, nodes: str, stdout: str = "", code: int = 0) -> FakeJob:
    return FakeJob("nodes", id, stdout, state="FAILED" if code else "COMPLETED", code=code, nodes=nodes)


@pytest.mark.seen_to_fail("SLU-21")
def test_tasks_that_pile_up_on_one_node(evidence: Evidence) -> None:
    both = "node[01-02]"
    culprit = Culprit(evidence)
    checks.test_multi_node_allocation(fake_slurm([over_nodes(6, both, "node02\nnode01\n")]), evidence, culprit)
    piled = [over_nodes(id, both, "node01\nnode01\n") for id in (6, 7, 8)]
    fine = [over_nodes(9, "node01", "node01\n"), over_nodes(10, "node02", "node02\n")]
    once = [piled[0], *(over_nodes(id, both, "node01\nnode02\n") for id in (7, 8))]
    with pytest.raises(
        AssertionError,
        match=r"^node01, node02: which node it is, .* not again in 2 re-runs .*: "
        r"job 6 \(nodes\) on node01,node02: its tasks ran on \['node01', 'node01'\], expected one on each of",
    ):
        checks.test_multi_node_allocation(fake_slurm(once), evidence, culprit)
    with pytest.raises(
        AssertionError,
        match=r"^node01 <-> node02: fail together, and neither without the other: it is the link between",
    ):
        checks.test_multi_node_allocation(fake_slurm([*piled[:2], *fine, piled[2]]), evidence, culprit)
    with pytest.raises(
        AssertionError,
        match=r"^controller: sbatch refused job 'nodes': sbatch: error: Batch job submiss.* \(no node is",
    ):
        checks.test_multi_node_allocation(fake_slurm(first=[("sbatch", REFUSED)]), evidence, culprit)
    evidence.attach("refusal", "seen")


@pytest.mark.seen_to_fail("SLU-21")
def test_the_node_on_which_tasks_fail_is_named_first(evidence: Evidence) -> None:
    both = "node[01-02]"
    runs = [
        *(over_nodes(id, both, "node01\n", code=127) for id in (1, 2)),
        over_nodes(3, "node01", "node01\n"),
        *(over_nodes(id, "node02", code=127) for id in (4, 5)),
    ]
    with pytest.raises(
        AssertionError,
        match=r"^node02: fails wherever it takes part; the other node passes without it \(4 re-runs\): "
        r"job 4 \(nodes\) on node02: ended as FAILED with exit 127:0",
    ):
        checks.test_multi_node_allocation(fake_slurm(runs), evidence, Culprit(evidence))


@pytest.mark.seen_to_fail("SLU-25")
def test_a_short_job_that_does_not_overtake(evidence: Evidence) -> None:
    def jobs(short: tuple[int, int, int], wide: tuple[str, ...] = ("PENDING", "PENDING")) -> list[FakeJob]:
        return [
            FakeJob("bf-runner", 1, seen=("RUNNING",), times=(100, 100, 110)),
            FakeJob("bf-wide", 2, seen=wide, times=(101, 110, 111)),
            FakeJob("bf-short", 3, times=short),
        ]

    checks.test_a_short_job_overtakes(fake_slurm(jobs((102, 103, 104))), evidence)
    with pytest.raises(
        AssertionError, match=r"^job 3 \(bf-short\) on node01: ended at 112, the job before it started at 1"
    ):
        checks.test_a_short_job_overtakes(fake_slurm(jobs((102, 111, 112))), evidence)
    with pytest.raises(AssertionError, match=r"^job 2: RUNNING while another held its node; nothing was blocked"):
        checks.test_a_short_job_overtakes(fake_slurm(jobs((102, 103, 104), ("PENDING", "RUNNING"))), evidence)
