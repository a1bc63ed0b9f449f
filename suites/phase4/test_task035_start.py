"""TASK-035: a cluster comes up once, in time, as planned, and a second start changes nothing."""

from __future__ import annotations

import pytest

from pytest_ai_how.bringup import Bringup, services_of
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.drivers.machines.reality import PARTS, Shape, planned
from pytest_ai_how.machines import Machines
from pytest_ai_how.pci import held
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ..phase6._nested import exit_of
from ._converge import Change, changes, reality_of
from ._facts import differences, duplicates
from ._lives import Again, Crowd
from ._small import OFF, ON, Small

pytestmark = [pytest.mark.requires("owned"), pytest.mark.xdist_group("TASK-035")]


@pytest.mark.check("PRV-23")
def test_several_workers_make_one_cluster(crowd: Crowd, evidence: Evidence) -> None:
    """Workers that all want the cluster at once make it once, and all see the same machine."""
    evidence.result(crowd.result)
    evidence.attach("notes", "\n".join(f"{name}: {' '.join(note)}" for name, note in crowd.notes.items()))
    evidence.attach("the cluster", str(crowd.facts))
    assert crowd.result.ok, f"localhost: pytest with {len(crowd.notes)} workers exited with {crowd.result.returncode}"
    missing = [name for name, note in crowd.notes.items() if len(note) != 3]
    assert not missing, f"localhost: no note of {', '.join(missing)}; nothing to compare"
    assert len(crowd.notes) > 1, f"localhost: {len(crowd.notes)} workers ran, expected several; nothing to compare"
    processes, *machine = (set(column) for column in zip(*crowd.notes.values(), strict=True))
    assert len(processes) == len(crowd.notes), (
        f"localhost: {len(processes)} processes tested, expected {len(crowd.notes)}; the tests were not spread"
    )
    assert all(len(seen) == 1 for seen in machine), (
        f"{ON}: workers saw different machines: {machine}; expected one boot of one machine"
    )
    making = crowd.result.stdout.count(": making ")
    assert making == 1, f"localhost: the cluster was made {making} times, expected once"
    assert not (twice := duplicates(crowd.facts)), f"localhost: made twice: {twice[0]} (and {len(twice) - 1} more)"


@pytest.mark.check("PRV-13")
def test_start_to_ssh(crowd: Crowd, bringup: Bringup, evidence: Evidence, measure: Measurements) -> None:
    """A machine answers over ssh, and a cluster is ready, within the time that is allowed."""
    bringup.ready_all(services_of(bringup.config))
    whole = {name: step.seconds for name, step in bringup.lease.record.steps.items()}
    for name, steps in (("small cluster", crowd.seconds), ("cluster", whole)):
        evidence.attach(f"{name}: seconds by step", "\n".join(f"{step}: {took:.2f}" for step, took in steps.items()))
        lacking = [step for step in ("machines", "ssh") if not steps.get(step)]
        assert not lacking, f"{name}: no time of step {lacking[0]!r} is in the record"
    measure("cluster.start_to_ssh", crowd.seconds["machines"] + crowd.seconds["ssh"], "s", node=ON)
    measure("cluster.start", sum(whole.values()), "s")


@pytest.mark.check("PRV-12")
def test_a_second_start_changes_nothing(again: Again, evidence: Evidence) -> None:
    """Starting a cluster that is up exits with 0 and leaves every process, boot and journal entry as it was."""
    evidence.result(again.result)
    evidence.attach("before", str(again.before))
    evidence.attach("after", str(again.after))
    assert again.before.processes, "localhost: no process of the cluster before the second start; nothing to compare"
    assert again.result.ok, f"localhost: the second start {exit_of(again.result)}"
    assert "was up already" in again.result.stdout, (
        f"localhost: the second start said {again.result.stdout.splitlines()[:1]}, expected that the cluster was up"
    )
    assert not (found := differences(again.before, again.after)), (
        f"localhost: changed by the second start: {'; '.join(found)}; expected no change"
    )


@pytest.mark.check("PRV-17")
def test_not_started_by_itself(crowd: Crowd, small: Small, machines: Machines, evidence: Evidence) -> None:
    """A machine with ``auto_start: false`` is defined, off, and holds no device."""
    evidence.attach("small cluster", str(crowd.facts))
    states = {f"{small.config.name}/{OFF}": crowd.facts.machines.get(OFF, "absent")}
    config = machines.config
    names = [node.name for node in config.nodes if not node.auto_start]
    states.update({f"{config.name}/{name}": machines.state(name) for name in names})
    claims = [*crowd.facts.claims, *(claim for claim in held() if claim.cluster == config.name)]
    evidence.attach("machines", "\n".join(f"{name}: {state}" for name, state in states.items()))
    evidence.attach("devices held", "\n".join(map(str, claims)) or "none")
    wrong = {name: state for name, state in states.items() if state != "off"}
    assert not wrong, "; ".join(f"{name}: is {state}, expected off and defined" for name, state in wrong.items())
    holding = [claim for claim in claims if f"{claim.cluster}/{claim.machine}" in states]
    assert not holding, f"{holding[0].machine}: holds {holding[0].address} although it is off, expected no device"
    assert crowd.facts.machines.get(ON) == "running", f"{ON}: is not running beside it; the file was not followed"


@pytest.mark.check("PRV-20")
def test_converge_changes_nothing(cluster: Cluster, bringup: Bringup, evidence: Evidence) -> None:
    """The files on every machine are those of a second rendering, byte for byte, with their modes and owners."""
    reality = reality_of(bringup.driver)
    found: list[Change] = []
    for node in cluster.nodes:
        files = reality.files(cluster.config, node.name)
        assert files, f"{node.name}: nothing is rendered for it; nothing was compared"
        seen = changes(node, files, evidence)
        found += seen
    failed = [change for change in found if change.failed]
    assert not found, (
        f"{found[0]} ({len(found) - len(failed)} changed, {len(failed)} failed); expected 0 changed, 0 failed"
    )


@pytest.mark.check("PRV-25")
def test_plan_equals_reality(bringup: Bringup, cluster: Cluster, evidence: Evidence) -> None:
    """What the file plans for each machine is what whoever runs it tells: CPUs, memory, disk, network, devices."""
    reality = reality_of(bringup.driver)
    wrong: list[str] = []
    for node in cluster.nodes:
        plan, shape = planned(cluster.config, node.config), reality.shape(cluster.config, node.name)
        evidence.attach(f"{node.name}: plan and reality", _beside(plan, shape))
        assert shape.parts, f"{node.name}: nothing is told of it; nothing was compared"
        untold = [part for part in plan if part not in shape.parts and part not in shape.untold]
        assert not untold, f"{node.name}: {untold[0]} is neither told nor said to be untold; expected one of both"
        wrong += [
            f"{node.name}: {part} is {is_!r}, planned {plan.get(part, 'nothing')!r}"
            for part, is_ in shape.parts.items()
            if is_ != plan.get(part)
        ]
    assert not wrong, f"{'; '.join(wrong)}; expected what the cluster's YAML says"


def _beside(plan: dict[str, str], shape: Shape) -> str:
    rows = [
        f"{part}: {plan.get(part)} | {shape.parts.get(part, f'not told: {shape.untold.get(part)}')}" for part in PARTS
    ]
    return "\n".join(rows)
