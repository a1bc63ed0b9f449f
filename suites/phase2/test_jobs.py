"""TASK-042: what goes with each job: the plug-ins that it starts with, and the word on why it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.services.slurm.facts import CONFIG

from ..phase6._slurm_jobs import Run, cancelling, collect, judged, run_jobs, submit
from ..phase6._slurm_payloads import payload
from ._journal import known_harmless, step_log, steps, wrong
from ._spank import STACK

pytestmark = pytest.mark.requires("slurm", "shared-storage")

#: Where the epilog leaves why a job ended (role slurm-compute).
DIAGNOSES = "/var/log/slurm/diagnosis"
#: Seconds after slurmctld knows that a job has ended in which its epilog is to have ended, too.
APPEARS_WITHIN = 15.0


class Ending(NamedTuple):
    """A way for a job to end: its script, and what its diagnosis is to say."""

    name: str
    script: str
    cause: str
    exit: tuple[int, int]


# $$ in the script is the job's own shell, which Slurm sees end by the signal; 137 is what a shell makes of a child's.
ENDINGS = (
    Ending("diagnose-0", "exit 0", "none", (0, 0)),
    Ending("diagnose-7", "exit 7", "exit-status", (7, 0)),
    Ending("diagnose-kill", "kill -KILL $$", "killed", (0, 9)),
    Ending("diagnose-137", "sh -c 'kill -KILL $$'", "killed", (137, 0)),
    Ending("diagnose-139", "kill -SEGV $$", "segmentation-fault", (0, 11)),
)


#: A job that is cancelled while it runs: Slurm writes 0:0, whatever its processes ended with.
CANCELLED = Ending("diagnose-cancel", "echo running; sleep 600", "cancelled", (0, 0))

#: A process killed by the kernel, which Slurm writes as 0:125; a shell would see 137 again.
OUT_OF_MEMORY = Ending("diagnose-oom", payload("memory_fill.py"), "out-of-memory", (0, 125))


@pytest.mark.check("SLU-41")
@pytest.mark.requires("diagnosis")
def test_failures_are_diagnosed(slurm: Slurm, evidence: Evidence) -> None:
    """Why a job ended is told on its node as JSON, rightly for status 0, 7, 137 and 139, with advice for each."""
    jobs = [JobSpec(one.script, name=one.name, mem=16, requeue=False) for one in ENDINGS]
    diagnosed(slurm, evidence, ENDINGS, jobs)


@pytest.mark.check("SLU-41")
@pytest.mark.requires("diagnosis", "cgroup.memory")
def test_too_little_memory_is_diagnosed(slurm: Slurm, evidence: Evidence) -> None:
    """A job that was killed for its memory is told from one that was killed otherwise."""
    script, name = OUT_OF_MEMORY.script, OUT_OF_MEMORY.name
    job = JobSpec(script, name=name, mem=64, requeue=False, export="ALL,FILL=256")
    diagnosed(slurm, evidence, [OUT_OF_MEMORY], [job])


@pytest.mark.check("SLU-41")
@pytest.mark.requires("diagnosis")
def test_a_cancelled_job_is_diagnosed(slurm: Slurm, evidence: Evidence) -> None:
    """A job that somebody cancelled is told from one that ended by itself."""
    with cancelling(slurm) as ids:
        ids.append(submit(slurm, JobSpec(CANCELLED.script, name=CANCELLED.name, mem=16, requeue=False)))
        with judged():
            slurm.until(ids[0], "RUNNING")
            # slurmctld calls a job running before its script is; of one that never began, its node knows nothing.
            wrote = f"{slurm.folder}/{CANCELLED.name}-{ids[0]}.out"
            wait_for(
                lambda: slurm.query("test", "-s", wrote, check=False).ok,
                within=APPEARS_WITHIN,
                what="running: its script wrote nothing",
                where=f"job {ids[0]} ({CANCELLED.name})",
            )
    compared(slurm, evidence, [CANCELLED], collect(slurm, evidence, ids))


def diagnosed(slurm: Slurm, evidence: Evidence, endings: Sequence[Ending], jobs: Sequence[JobSpec]) -> None:
    """Run jobs, and compare what is told of each with how it ended."""
    compared(slurm, evidence, endings, run_jobs(slurm, evidence, jobs))


def compared(slurm: Slurm, evidence: Evidence, endings: Sequence[Ending], runs: Sequence[Run]) -> None:
    """Compare what is told of jobs that have ended with how they ended."""
    for ending, run in zip(endings, runs, strict=True):
        found = diagnosis(slurm.cluster, run, evidence)
        seen = (found.get("exit") or {}).get("status"), (found.get("exit") or {}).get("signal")
        assert (found.get("job"), *seen) == (run.id, *ending.exit), (
            f"{run.label}: its diagnosis is of job {found.get('job')} with status and signal {seen}; expected "
            f"{run.id} with {ending.exit}"
        )
        assert found.get("cause") == ending.cause, (
            f"{run.label}: it is told to have ended by {found.get('cause')!r}, expected {ending.cause!r}"
        )
        for key in ("summary", "advice"):
            assert found.get(key), f"{run.label}: its diagnosis has no {key}; expected words that help: {found}"


def diagnosis(cluster: Cluster, run: Run, evidence: Evidence) -> Mapping[str, Any]:
    """What was written down on a job's node on why it ended."""
    assert run.record.nodes, f"{run.label}: it ran on no node, so that nothing can be told of it"
    node, path = cluster[run.node], f"{DIAGNOSES}/{run.id}.json"
    with judged():
        # slurmctld may know that a job has ended before its epilog has.
        wait_for(
            lambda: node.run("test", "-s", path, check=False).ok,
            within=APPEARS_WITHIN,
            what=f"in possession of {path}",
            where=node.name,
            cure="read /var/log/slurm/epilog.log there",
        )
    read = node.run("cat", path)
    evidence.result(read)
    try:
        found = json.loads(read.stdout)
    except ValueError as error:
        raise AssertionError(f"{node.name}: {path} is no JSON: {error}; it begins {read.stdout[:80]!r}") from error
    assert isinstance(found, dict), f"{node.name}: {path} holds {type(found).__name__}, expected an object"
    return found


@pytest.mark.check("SLU-43")
@pytest.mark.reads(STACK, CONFIG)
def test_plugin_stack(slurm: Slurm, facts: Facts, evidence: Evidence) -> None:
    """The stack of SPANK plug-ins is plain text that Slurm reads, and a job on each node loads it without an error."""
    stacks = facts(STACK, slurm.cluster.all.names)
    for node, stack in stacks.items():
        assert not stack.mistakes, (
            f"{node}: {stack.mistakes[0]} is no line of a stack of plug-ins; expected `required|optional PLUGIN "
            "[ARGUMENTS]` or `include FILES` (spank(8)): plain text, not INI"
        )
    evidence.attach(
        "plug-ins", "\n".join(f"{node}: {', '.join(one.plugins) or 'none'}" for node, one in stacks.items())
    )
    controller = slurm.cluster.controller.name
    config = facts(CONFIG, [controller])[controller]
    for machine in slurm.cluster.on("compute"):
        loads(slurm, machine, step_log(config, machine.name), evidence)


def loads(slurm: Slurm, node: Node, log: str, evidence: Evidence) -> None:
    """A job on a node starts, and neither srun nor the job's own steps complain about plug-ins."""
    ran = slurm.srun("sh", "-c", "echo $SLURM_JOB_ID", nodelist=node.name, mem=16)
    evidence.result(ran)
    complaints = [line for line in ran.stderr.splitlines() if "error:" in line]
    assert ran.ok, f"{node.name}: srun ended with {ran.returncode}: {(complaints or ['no reason given'])[0]}"
    assert not complaints, f"{node.name}: srun wrote {complaints[0]!r}; expected the plug-ins to load without an error"
    fact, job = steps(log), ran.stdout.strip()
    told = node.run(*fact.argv)
    evidence.result(told, f"{node.name}: {log}")
    mine = [line for line in fact.of(told) if line.text.startswith(f"[{job}.")]
    assert mine, f"{node.name}: {log} has no line of job {job}; nothing is known of its plug-ins"
    errors = list(wrong(mine, 0.0, known_harmless()))
    assert not errors, f"{node.name}: {log}: {errors[0].text}; expected job {job} to load its plug-ins without an error"
