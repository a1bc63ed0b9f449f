"""TASK-042: a prolog that fails: the node must not eat the queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.services.slurm.facts import CONFIG

from ..phase6._slurm_jobs import cancelling, collect, completed, judged, submit
from ..phase6._slurm_units import await_node, usable

pytestmark = [pytest.mark.requires("slurm", "shared-storage", "owned"), pytest.mark.exclusive, pytest.mark.disruptive]

#: Seconds in which a node whose prolog fails is to be taken out: it is once slurmd has told slurmctld.
DRAINS_WITHIN = 60.0
FAILS = "#!/bin/sh\necho 'fails on purpose' >&2\nexit 1\n"


@pytest.mark.check("SLU-42")
@pytest.mark.reads(CONFIG)
def test_failing_prolog(slurm: Slurm, facts: Facts, evidence: Evidence) -> None:
    """A node whose prolog fails is drained with that reason and its job queued again; both go on when it is mended."""
    node, controller = slurm.cluster[slurm.compute[0]], slurm.cluster.controller
    config = facts(CONFIG, [controller.name])[controller.name]
    # Slurm 24.11 has several, and numbers them.
    prolog = config.get("Prolog[0]") or config.get("Prolog", "")
    assert prolog, f"{controller.name}: no Prolog is configured; expected one that looks after nodes before jobs"
    job = JobSpec('echo "$SLURM_RESTART_COUNT"', name="prolog", nodelist=node.name, mem=16, requeue=True)
    with cancelling(slurm) as ids, judged():
        try:
            with failing(node, prolog, evidence):
                ids.append(submit(slurm, job))
                drained = await_node(slurm, node.name, lambda seen: "DRAIN" in seen.states, "drained", DRAINS_WITHIN)
                evidence.attach("the node whose prolog fails", str(drained))
                assert "prolog" in drained.reason.lower(), (
                    f"{node.name}: drained for {drained.reason!r}; expected a reason that names the prolog"
                )
                again = slurm.until(ids[0], "PENDING", within=60)
                evidence.attach("the job", str(again))
                assert again.restarts, f"job {again.id}: waits, but was not queued again; expected one restart"
        finally:
            resume(slurm, node, evidence)
        back = await_node(slurm, node.name, usable, "usable again", 60)
        evidence.attach("the node with its prolog again", str(back))
        # Slurm holds a job whose prolog failed, or begins it minutes later, so that it drains one node a time.
        for verb in (("release", str(ids[0])), ("update", f"jobid={ids[0]}", "starttime=now")):
            evidence.result(controller.run("scontrol", *verb))
        run = completed(collect(slurm, evidence, ids)[0])
    assert run.stdout.strip() == "1", f"{run.label}: was restarted {run.stdout.strip() or 'no'} times, expected once"


@contextmanager
def failing(node: Node, prolog: str, evidence: Evidence) -> Iterator[None]:
    """Put a prolog that fails in the place of a node's own, for the time of the block."""
    was = node.read(prolog)
    mode = int(node.run("stat", "--format=%a", prolog).stdout, 8)
    evidence.attach(f"{node.name}: {prolog}", was)
    try:
        node.write(prolog, FAILS, mode)
        yield
    finally:
        node.write(prolog, was, mode)


def resume(slurm: Slurm, node: Node, evidence: Evidence) -> None:
    """Take a node back, as its administrator does; one that was never taken out is left as it is."""
    if "DRAIN" in slurm.nodes()[node.name].states:
        done = slurm.cluster.controller.run("scontrol", "update", f"nodename={node.name}", "state=resume", check=False)
        evidence.result(done)
