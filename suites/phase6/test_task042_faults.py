"""TASK-042: what fails in an ordinary month, made to fail on purpose: daemons, the controller, a node."""

from __future__ import annotations

import time

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import JobSpec, Slurm

from ._slurm_jobs import cancelling, collect, completed, judged, run_job, submit
from ._slurm_payloads import payload
from ._slurm_probes import first_traces, traces
from ._slurm_units import await_node, boot, killed, rebooted, usable

pytestmark = [pytest.mark.requires("slurm", "shared-storage", "owned"), pytest.mark.exclusive, pytest.mark.disruptive]
#: How long a machine is given to boot, and then Slurm to use it. What is good is in the limits; this ends the waiting.
REBOOT_SECONDS = 300.0


# The machine runs on: what does not use Slurm may use it meanwhile.
@pytest.mark.exclusive("slurm", "accounting")
@pytest.mark.check("SLU-44")
def test_slurmd_killed(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """A node whose slurmd was killed goes DOWN, its job ends as NODE_FAIL, and it comes back with slurmd, clean."""
    node = slurm.cluster[slurm.compute[0]]
    job = JobSpec("sleep 600 & wait", name="node-fail", nodelist=node.name, time=10, requeue=False, mem=16)
    with cancelling(slurm) as ids, judged():
        ids.append(submit(slurm, job))
        slurm.until(ids[0], "RUNNING")
        first_traces(node, ids[0], evidence)
        since = time.monotonic()
        with killed(node, "slurmd", evidence):
            down = await_node(slurm, node.name, lambda seen: "DOWN" in seen.states, "DOWN without slurmd", 120)
            evidence.attach("the node without slurmd", str(down))
        back = await_node(slurm, node.name, usable, "usable with slurmd again", 300)
        took = time.monotonic() - since
        evidence.attach("the node with slurmd again", str(back))
        run = collect(slurm, evidence, ids)[0]
        evidence.attach("seconds from the kill to a usable node", f"{took:.1f}")
        wait_for(
            lambda: not traces(node, run.id, Evidence()).processes,
            within=30 * node.pace,
            what=f"rid of the processes of job {run.id}",
            where=node.name,
        )
    assert run.record.state == "NODE_FAIL", (
        f"{run.label}: ended as {run.record.state} when its node went down, expected NODE_FAIL"
    )
    measure("slurm.node_recovery", took, "s", node=node.name)
    completed(run_job(slurm, evidence, JobSpec("true", name="after-kill", nodelist=node.name, mem=16)))


@pytest.mark.exclusive("slurm", "accounting")
@pytest.mark.check("SLU-45")
def test_slurmctld_restart(slurm: Slurm, evidence: Evidence) -> None:
    """When slurmctld restarts, the running job goes on and the waiting one keeps its place."""
    controller = slurm.cluster.controller
    go = f"{slurm.folder}/ctld-go"
    slurm.query("rm", "-f", go)
    with cancelling(slurm) as ids, judged():
        ids.append(
            submit(slurm, JobSpec(payload("await.sh"), name="survivor", mem=16, time=5, export=f"ALL,UNTIL={go}"))
        )
        ids.append(submit(slurm, JobSpec("true", name="queued", hold=True, mem=16)))
        before = (slurm.until(ids[0], "RUNNING"), slurm.until(ids[1], "PENDING"))
        old = main_pid(controller, "slurmctld", evidence)
        evidence.result(controller.run("systemctl", "restart", "slurmctld", timeout=90))
        assert main_pid(controller, "slurmctld", evidence) != old, f"{controller.name}: slurmctld was not restarted"
        for name in slurm.compute:
            await_node(slurm, name, usable, "usable after slurmctld restarted", 60)
        after = (slurm.job(ids[0]), slurm.job(ids[1]))
        evidence.attach("before and after", "\n".join(map(str, (*before, *after))))
        for was, now in zip(before, after, strict=True):
            assert (now.state, now.start) == (was.state, was.start), (
                f"job {was.id}: {was.state} since {was.start} before slurmctld restarted, {now.state} since "
                f"{now.start} after; expected no change"
            )
        slurm.query("touch", go)
        slurm.query("scontrol", "release", str(ids[1]))
        survivor, queued = collect(slurm, evidence, ids)
    assert completed(survivor).stdout == "started\nended\n", (
        f"{survivor.label}: said {survivor.stdout!r}, expected that it began once and ended"
    )
    completed(queued)


@pytest.mark.check("SLU-46")
def test_node_reboot(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """A compute node that reboots is used again without anybody's help."""
    node = slurm.cluster[slurm.compute[0]]
    old, daemon = boot(node), slurm.nodes()[node.name].slurmd_start
    since = time.monotonic()
    with judged():
        # The connection may go down with the machine before the command has answered.
        try:
            evidence.result(node.run("systemctl", "reboot", check=False, timeout=10))
        except AiHowError as error:
            evidence.attach("systemctl reboot", str(error))
        new = wait_for(
            lambda: rebooted(node, old), within=REBOOT_SECONDS, what="booted anew", where=node.name, every=0.2
        )
        evidence.attach("boots", f"{old}\n{new}")
        record = await_node(
            slurm,
            node.name,
            lambda seen: seen.usable and seen.slurmd_start != daemon,
            "usable with a new slurmd",
            REBOOT_SECONDS,
        )
    took = time.monotonic() - since
    evidence.attach("the node afterwards", str(record))
    assert not record.reason, f"{node.name}: usable after its reboot, but with the reason {record.reason!r}"
    measure("slurm.node_reboot", took, "s", node=node.name)
    completed(run_job(slurm, evidence, JobSpec("true", name="after-reboot", nodelist=node.name, mem=16)))


def main_pid(node: Node, unit: str, evidence: Evidence) -> str:
    """The main process of a unit."""
    shown = node.run("systemctl", "show", "--property=MainPID,ActiveState", unit)
    evidence.result(shown)
    return shown.stdout
