"""TASK-042: jobs and their life, from submission to what they leave."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.services.slurm.options import arguments

from ._slurm_jobs import cancelling, collect, completed, judged, roomiest, run_job, run_jobs, submit
from ._slurm_nodes import node_faults
from ._slurm_payloads import payload
from ._slurm_probes import first_traces, traces

pytestmark = pytest.mark.requires("slurm")


@pytest.mark.check("SLU-08")
def test_all_nodes_are_idle_or_mixed(slurm: Slurm, evidence: Evidence) -> None:
    """Every configured compute node takes jobs, and none has a reason set."""
    nodes = slurm.nodes()
    evidence.attach("scontrol show node", "\n".join(map(str, nodes.values())))
    faults = node_faults(slurm.compute, nodes, "IDLE or MIXED and no reason", lambda one: one.usable and not one.reason)
    assert slurm.compute, f"{slurm.cluster.name}: no compute node is configured; nothing was checked"
    assert not faults, "\n".join(faults)


@pytest.mark.check("SLU-12")
@pytest.mark.requires("shared-storage")
def test_srun_reaches_each_node(slurm: Slurm, evidence: Evidence) -> None:
    """Srun on each compute node answers with that node's host name."""
    for node in slurm.compute:
        result = slurm.srun("hostname", nodelist=node, mem=16)
        evidence.result(result)
        assert result.ok, (
            f"{node}: srun hostname ended with {result.returncode}: {result.stderr.strip()[-300:]}; "
            f"do: read slurmd's log on {node}"
        )
        said = result.stdout.strip()
        assert said == node, f"{node}: srun hostname answered {said!r}, expected {node!r}; see NodeName in slurm.conf"


@pytest.mark.check("SLU-13")
@pytest.mark.requires("shared-storage")
def test_a_job_lives_from_pending_to_completed(slurm: Slurm, evidence: Evidence) -> None:
    """A batch job is seen PENDING, then RUNNING, and the accounting has it COMPLETED."""
    with cancelling(slurm) as ids, judged():
        # Long enough to be seen: a look at it takes an emulated machine seconds.
        job = submit(slurm, JobSpec(f"sleep {slurm.cluster.pace:g}", name="life", hold=True, mem=16))
        ids.append(job)
        pending = slurm.until(job, "PENDING", within=10)
        released = slurm.query("scontrol", "release", str(job), check=False)
        assert released.ok, f"job {job}: could not be released: {released.stderr.strip()}"
        running = slurm.until(job, "RUNNING")
        evidence.attach("seen by slurmctld", f"{pending}\n{running}")
        run = completed(collect(slurm, evidence, [job])[0])
    record = run.record
    times = (record.submit or 0, record.start or 0, record.end or 0)
    assert 0 < times[0] <= times[1] < times[2], (
        f"{run.label}: the accounting has submit, start and end as {times}; expected them in this order, and a second "
        "of running"
    )


@pytest.mark.check("SLU-14")
@pytest.mark.requires("shared-storage")
def test_exit_codes_and_signals_arrive(slurm: Slurm, evidence: Evidence) -> None:
    """Exit status 0 and 7 and death by SIGKILL reach the accounting, and the caller of srun."""
    cases = (("exit 0", "COMPLETED", "0:0", 0), ("exit 7", "FAILED", "7:0", 7), ("kill -KILL $$", "FAILED", "0:9", 137))
    runs = run_jobs(slurm, evidence, [JobSpec(text, name="exit", mem=16) for text, *_ in cases])
    for (text, state, code, _), run in zip(cases, runs, strict=True):
        seen = (run.record.state, str(run.record.exit))
        assert seen == (state, code), (
            f"{run.label}: `{text}` is {seen[0]} with {seen[1]} in the accounting, expected {state} with {code}"
        )
    for text, _, _, status in cases:
        result = slurm.srun("sh", "-c", text, mem=16)
        evidence.result(result)
        assert result.returncode == status, (
            f"{result.node}: srun ended with {result.returncode} for `{text}`, expected {status}"
        )


@pytest.mark.check("SLU-15")
@pytest.mark.requires("shared-storage")
def test_output_files_and_working_directory(slurm: Slurm, evidence: Evidence) -> None:
    """Standard output and error land in the files asked for, byte by byte, and the job starts where it was told."""
    folder = f"{slurm.folder}/work dir"
    slurm.query("mkdir", "-p", folder)
    out, err = f"{slurm.folder}/streams.out", f"{slurm.folder}/streams.err"
    script = "pwd; printf 'to out\\n'; printf 'to err\\n' >&2; printf here >made"
    run = completed(
        run_job(slurm, evidence, JobSpec(script, name="streams", chdir=folder, output=out, error=err, mem=16))
    )
    for path, expected in ((out, f"{folder}\nto out\n"), (err, "to err\n"), (f"{folder}/made", "here")):
        read = slurm.query("cat", "--", path, check=False)
        evidence.result(read)
        seen = read.stdout if read.ok else f"unreadable: {read.stderr.strip()}"
        assert seen == expected, f"{run.label}: {path} holds {seen!r}, expected {expected!r}"


@pytest.mark.check("SLU-16")
@pytest.mark.requires("shared-storage")
def test_environment_and_export(slurm: Slurm, evidence: Evidence) -> None:
    """``--export`` passes on all, nothing, or what it names, and the job knows itself."""
    expected = {
        "ALL": {"AIHOW_PARENT=from the caller"},
        "NONE": set(),
        "AIHOW_CHILD=named": {"AIHOW_CHILD=named"},
        "ALL,AIHOW_CHILD=named": {"AIHOW_PARENT=from the caller", "AIHOW_CHILD=named"},
    }
    for export, variables in expected.items():
        options = arguments({"export": export, "mem": 16, "chdir": slurm.folder})
        result = slurm.query(
            *("env", "AIHOW_PARENT=from the caller", "srun", *options, "/usr/bin/env"), timeout=60, check=False
        )
        evidence.result(result, f"srun --export={export}")
        lines = result.stdout.splitlines()
        assert any(line.startswith("SLURM_JOB_ID=") for line in lines), (
            f"{result.node}: srun --export={export} env ended with {result.returncode} and no SLURM_JOB_ID: "
            f"{result.stderr.strip()[-300:]}"
        )
        seen = {line for line in lines if line.startswith("AIHOW_")}
        assert seen == variables, (
            f"{result.node}: srun --export={export} gave the job {sorted(seen)}, expected {sorted(variables)}"
        )


@pytest.mark.check("SLU-17")
@pytest.mark.requires("shared-storage")
def test_cancel_pending_and_running(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """Cancelling ends a pending and a running job as CANCELLED, soon, and leaves no process."""
    with cancelling(slurm) as ids, judged():
        waiting = submit(slurm, JobSpec("true", name="cancel-held", hold=True, mem=16))
        running = submit(slurm, JobSpec("sleep 600 & wait", name="cancel-run", time=5, mem=16))
        ids += [waiting, running]
        node = slurm.cluster[slurm.until(running, "RUNNING").nodes[0]]
        first_traces(node, running, evidence)
        since = time.monotonic()
        evidence.result(slurm.cancel(waiting, running))
        slurm.ended(waiting, running)
        took = time.monotonic() - since
        runs = collect(slurm, evidence, [waiting, running])
    for run in runs:
        assert run.record.state == "CANCELLED", f"{run.label}: ended as {run.record.state}, expected CANCELLED"
    after = traces(node, running, evidence)
    assert not after.processes, f"{node.name}: of the cancelled job {running} is left: {after}"
    measure("slurm.cancel", took, "s")


@pytest.mark.check("SLU-20")
@pytest.mark.requires("shared-storage")
def test_arrays_and_dependencies(slurm: Slurm, evidence: Evidence) -> None:
    """Each task of an array runs once; a dependent job starts after all of them, and only if they went well."""
    with cancelling(slurm) as ids:
        tasks = submit(slurm, JobSpec('echo "task=$SLURM_ARRAY_TASK_ID"', name="array", array="0-3", mem=16))
        failing = submit(slurm, JobSpec("exit 1", name="failing", mem=16))
        after = submit(slurm, JobSpec("true", name="after", dependency=f"afterok:{tasks}", mem=16))
        rescue = submit(slurm, JobSpec("true", name="rescue", dependency=f"afternotok:{failing}", mem=16))
        never = submit(slurm, JobSpec("true", name="never", dependency=f"afterok:{failing}", mem=16))
        ids.append(never)
        runs = collect(slurm, evidence, [tasks, failing, after, rescue])
        refused = slurm.job(never)
        evidence.attach("job that depends on a failed one", str(refused))
    array = [run for run in runs if run.record.array and run.record.array[0] == tasks]
    said = sorted(run.stdout.strip() for run in array)
    wanted = [f"task={index}" for index in range(4)]
    assert said == wanted, f"job {tasks}: the array's tasks said {said}, expected {wanted}"
    named = {run.id: completed(run) for run in runs if run.id in (after, rescue)}
    last = max(run.record.end or 0 for run in array)
    start = named[after].record.start or 0
    assert start >= last > 0, f"{named[after].label}: started at {start}, before the array ended at {last}"
    assert (refused.state, refused.reason) == ("PENDING", "DependencyNeverSatisfied"), (
        f"job {never}: depends on the success of a failed job and is {refused.state} for {refused.reason}; expected "
        "PENDING for DependencyNeverSatisfied"
    )


@pytest.mark.check("SLU-21")
@pytest.mark.requires("shared-storage", "compute.several")
def test_multi_node_allocation(slurm: Slurm, evidence: Evidence, culprit: Culprit) -> None:
    """A job over all compute nodes runs one task on each."""
    assert len(slurm.compute) > 1, f"{slurm.cluster.name}: one compute node; a multi-node job needs two"
    culprit.of(slurm.compute, lambda nodes: one_task_on_each(slurm, evidence, nodes))


def one_task_on_each(slurm: Slurm, evidence: Evidence, nodes: Sequence[str]) -> None:
    """Run a job of one task on each of ``nodes``."""
    expected = sorted(nodes)
    job = JobSpec("srun hostname", name="nodes", nodes=len(nodes), nodelist=",".join(nodes), ntasks_per_node=1, mem=16)
    run = completed(run_job(slurm, evidence, job))
    said = sorted(run.stdout.split())
    assert said == expected, f"{run.label}: its tasks ran on {said}, expected one on each of {expected}"
    assert sorted(run.record.nodes) == expected, f"{run.label}: the accounting has it on {run.record.nodes}"


@pytest.mark.exclusive("slurm")
@pytest.mark.check("SLU-25")
@pytest.mark.requires("shared-storage", "cpus.several")
def test_a_short_job_overtakes(slurm: Slurm, evidence: Evidence) -> None:
    """Behind a job that waits for a whole node, a short job is backfilled and does not delay it."""
    node = roomiest(slurm)
    go = f"{slurm.folder}/backfill-go"
    slurm.query("rm", "-f", go)
    runner = JobSpec(payload("await.sh"), name="bf-runner", nodelist=node, time=5, mem=16, export=f"ALL,UNTIL={go}")
    wide = JobSpec("true", name="bf-wide", nodelist=node, exclusive=True, time=1, mem=16)
    short = JobSpec("true", name="bf-short", nodelist=node, time=1, mem=16)
    with cancelling(slurm) as ids, judged():
        ids.append(submit(slurm, runner))
        slurm.until(ids[0], "RUNNING")
        ids.append(submit(slurm, wide))
        blocked = slurm.until(ids[1], "PENDING", within=10)
        ids.append(submit(slurm, short))
        slurm.ended(ids[2], within=60)
        still = slurm.job(ids[1])
        evidence.attach("the blocked job, before and after", f"{blocked}\n{still}")
        assert still.state == "PENDING", f"job {ids[1]}: {still.state} while another held its node; nothing was blocked"
        slurm.query("touch", go)
        _, wide_run, short_run = map(completed, collect(slurm, evidence, ids))
    first, second = short_run.record, wide_run.record
    assert (first.submit or 0) >= (second.submit or 0), f"{short_run.label}: was not submitted behind {wide_run.label}"
    assert (first.end or 0) <= (second.start or 0), (
        f"{short_run.label}: ended at {first.end}, the job before it started at {second.start}; it did not overtake"
    )
