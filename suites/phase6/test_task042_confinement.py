"""TASK-042: a job gets what it asked for and no more, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import JobSpec, Slurm

from ._slurm_jobs import cancelling, collect, completed, judged, ran_on, roomiest, run_job, run_jobs, submit
from ._slurm_payloads import payload
from ._slurm_probes import first_traces, log_lines, traces

pytestmark = pytest.mark.requires("slurm", "shared-storage")


@pytest.mark.check("SLU-19")
@pytest.mark.requires("cgroup.memory")
def test_memory_limit(slurm: Slurm, evidence: Evidence) -> None:
    """On each node, a job that uses more memory than it asked for ends as OUT_OF_MEMORY, and the node stays healthy."""
    for node in slurm.compute:
        runs_out_of_memory(slurm, evidence, node)


def runs_out_of_memory(slurm: Slurm, evidence: Evidence, node: str) -> None:
    """Run a job that fills too much memory on a node, and judge its end and the node afterwards."""
    job = JobSpec(payload("memory_fill.py"), name="oom", nodelist=node, mem=64, export="ALL,FILL=256")
    run = ran_on(node, run_job(slurm, evidence, job))
    assert run.record.state == "OUT_OF_MEMORY", (
        f"{run.label}: filled 256 MiB with --mem=64M and ended as {run.record.state} ({run.record.exit}), expected "
        "OUT_OF_MEMORY; do: check ConstrainRAMSpace in cgroup.conf"
    )
    record = slurm.nodes()[node]
    evidence.attach("the node afterwards", str(record))
    assert record.usable, f"{node}: {record.state} after a job ran out of memory, reason {record.reason!r}"
    healthy = slurm.srun("hostname", nodelist=node, mem=16)
    evidence.result(healthy)
    assert healthy.stdout.strip() == node, f"{node}: answers no srun after a job ran out of memory: {healthy.stderr}"


@pytest.mark.exclusive
@pytest.mark.check("SLU-36")
@pytest.mark.requires("cgroup.cpu", "cpus.several")
def test_cpu_confinement(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """On each node, a job gets as many CPUs as it asked for, and its busy processes the time of those, and not more.

    What these CPUs give at present is measured beside it, outside of Slurm: others may be using the machine too. On a
    node with one CPU a job has all there is, confined or not: one with more is among them.
    """
    roomiest(slurm)
    for node in slurm.compute:
        keeps_to_its_cpus(slurm, node, evidence, measure)


def keeps_to_its_cpus(slurm: Slurm, node: str, evidence: Evidence, measure: Measurements) -> None:
    """Run jobs with one and with all idle CPUs of a node, and judge where they ran and how much time they got.

    Not all CPUs of the last node are idle while the job of SLU-18 runs into its limit there.
    """
    record = slurm.nodes()[node]
    total = record.cpus
    for cpus in sorted({1, max(1, total - record.cpus_used)}):
        job = JobSpec(
            payload("cpu_burn.py"),
            name=f"cpu-{cpus}",
            nodelist=node,
            cpus=cpus,
            mem=128,
            export="ALL,SECONDS_TO_BURN=1",
        )
        run = completed(ran_on(node, run_job(slurm, evidence, job)))
        told = json.loads(run.stdout)
        affinity = told["affinity"]
        assert len(affinity) == cpus, (
            f"{node}: job {run.id} with {cpus} CPUs may run on {affinity}, expected {cpus} of {total}; do: check "
            "ConstrainCores in cgroup.conf and TaskPlugin in slurm.conf"
        )
        assert told["reachable"] == affinity, (
            f"{node}: job {run.id} with {cpus} CPUs was put on {affinity} and got itself onto {told['reachable']}; "
            "expected that it can't; do: check ConstrainCores in cgroup.conf"
        )
        assert told["processes"] > cpus, f"{node}: job {run.id} kept {told['processes']} processes busy; not enough"
        measure.ceiling(
            "slurm.cpu_ceiling", burnt_outside(slurm.cluster[node], affinity, evidence), "fraction", node=node
        )
        measure("slurm.cpu_share", told["cpu_seconds"] / told["wall_seconds"] / cpus, "fraction", node=node)


def burnt_outside(node: Node, cpus: Sequence[int], evidence: Evidence) -> float:
    """Which share of these CPUs' time the same program gets on the same machine, without Slurm."""
    result = node.run(
        *("taskset", "--cpu-list", ",".join(map(str, cpus)), "env", "SECONDS_TO_BURN=1", "python3", "-"),
        input=payload("cpu_burn.py"),
    )
    evidence.result(result, f"{node.name}: the same outside of Slurm")
    told = json.loads(result.stdout)
    return float(told["cpu_seconds"] / told["wall_seconds"] / len(cpus))


@pytest.mark.check("SLU-37")
@pytest.mark.requires("cgroup.memory", "cpus.several")
def test_memory_confinement(slurm: Slurm, evidence: Evidence) -> None:
    """A job that exceeds its memory is killed, and a neighbour on the same node keeps its own, intact."""
    node = roomiest(slurm)
    go = f"{slurm.folder}/neighbour-go"
    slurm.query("rm", "-f", go)
    fill = payload("memory_fill.py")
    neighbour = JobSpec(fill, name="mem-neighbour", nodelist=node, mem=128, time=2, export=f"ALL,FILL=64,UNTIL={go}")
    greedy = JobSpec(fill, name="mem-greedy", nodelist=node, mem=64, time=2, export="ALL,FILL=256")
    with cancelling(slurm) as ids, judged():
        ids.append(submit(slurm, neighbour))
        slurm.until(ids[0], "RUNNING")
        ids.append(submit(slurm, greedy))
        slurm.ended(ids[1])
        beside = slurm.job(ids[0])
        evidence.attach("the neighbour when the greedy job had ended", str(beside))
        slurm.query("touch", go)
        first, second = collect(slurm, evidence, ids)
    assert second.record.state == "OUT_OF_MEMORY", (
        f"{second.label}: filled 256 MiB with --mem=64M and ended as {second.record.state}, expected OUT_OF_MEMORY"
    )
    assert beside.state == "RUNNING", f"{first.label}: was {beside.state} when its greedy neighbour had ended"
    assert first.record.nodes == second.record.nodes == (node,), f"{first.label} and {second.label}: not neighbours"
    said = completed(first).stdout.split("\n")[1:2]
    assert said == ["intact"], f"{first.label}: its memory was {said}, expected intact"


@pytest.mark.check("SLU-39")
@pytest.mark.requires("cgroup.cpu")
def test_nothing_is_left_after_a_job(slurm: Slurm, evidence: Evidence) -> None:
    """After a job that left a daemon behind there is no process and no cgroup of it, and its node is not COMPLETING."""
    go = f"{slurm.folder}/linger-go"
    slurm.query("rm", "-f", go)
    with cancelling(slurm) as ids, judged():
        ids.append(
            submit(slurm, JobSpec(payload("linger.sh"), name="linger", mem=16, time=2, export=f"ALL,UNTIL={go}"))
        )
        node = slurm.cluster[slurm.until(ids[0], "RUNNING").nodes[0]]
        before = first_traces(node, ids[0], evidence)
        assert before.cgroups, f"{node.name}: job {ids[0]} runs, but has no cgroup there; nothing to compare"
        slurm.query("touch", go)
        run = completed(collect(slurm, evidence, ids)[0])
    after = traces(node, run.id, evidence)
    assert not after, f"{node.name}: job {run.id} has ended and left {after}; expected nothing"
    record = slurm.nodes()[node.name]
    evidence.attach("the node afterwards", str(record))
    stuck = [job.id for job in slurm.jobs().values() if "COMPLETING" in job.states and job.id == run.id]
    assert not stuck, f"{node.name}: job {run.id} is still COMPLETING"


@pytest.mark.check("SLU-40")
def test_prolog_and_epilog_ran(slurm: Slurm, evidence: Evidence) -> None:
    """For a job on each node, the prolog and the epilog each wrote a line with its id there."""
    jobs = [JobSpec("true", name="prolog", nodelist=node, mem=16) for node in slurm.compute]
    for name, run in zip(slurm.compute, run_jobs(slurm, evidence, jobs), strict=True):
        completed(ran_on(name, run))
        node = slurm.cluster[name]
        for script in ("prolog", "epilog"):
            path = f"/var/log/slurm/{script}.log"
            lines = log_lines(node, path, run.id, evidence)
            assert len(lines) == 1, (
                f"{node.name}: {path} has {len(lines)} lines for job {run.id}, expected one; do: check "
                f"{script.capitalize()} in slurm.conf and slurmd's log"
            )
