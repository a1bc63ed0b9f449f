"""TASK-035: a device of the host belongs to one machine, for as long as that machine is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.machines import Machines
from pytest_ai_how.pci import claim, held, refusals
from pytest_ai_how.report.evidence import Evidence

from ..phase6._nested import changed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.requires("owned", "gpu.passthrough"), pytest.mark.xdist_group("TASK-035")]


@pytest.mark.check("PRV-19")
def test_second_owner_refused(machines: Machines, evidence: Evidence, tmp_path: Path) -> None:
    """Another cluster that wants the same device is refused before anything is made, and told who has it."""
    owner = owner_of_devices(machines.config)
    rival = changed(machines.config, name=f"rival-{machines.config.name}"[:32].rstrip("-"))
    said = [str(refusal) for refusal in refusals(rival)]
    evidence.attach("plan of a second cluster with the same devices", "\n".join(said) or "not refused")
    named = [line for line in said if owner.name in line and machines.config.name in line]
    assert said, f"{owner.name}: a second cluster with {_addresses(owner)} is not refused, expected a refusal"
    assert named, f"{owner.name}: the refusal does not name it and its cluster: {said[0]}; expected the owner's name"
    granted, answer = claim_for(rival, tmp_path / "journal")
    evidence.attach("claim of a second cluster", answer)
    assert not granted, f"{owner.name}: a second claim on {_addresses(owner)} was granted, expected a refusal"
    assert repr(machines.config.name) in answer, f"{owner.name}: the claim's refusal names no owner: {answer}"


@pytest.mark.check("PRV-18")
@pytest.mark.disruptive
def test_claim_follows_the_machine(machines: Machines, evidence: Evidence) -> None:
    """A machine that is stopped gives its devices up, and has them again when it is started or restarted."""
    node = owner_of_devices(machines.config)
    wanted = {device.address for device in node.devices}
    seen = {"running": claimed(machines.config, node)}
    machines.stop(node.name)
    seen["stopped"] = claimed(machines.config, node)
    machines.start(node.name)
    seen["started again"] = claimed(machines.config, node)
    machines.restart(node.name)
    seen["restarted"] = claimed(machines.config, node)
    evidence.attach(
        "devices held", "\n".join(f"{when}: {' '.join(sorted(what)) or 'none'}" for when, what in seen.items())
    )
    assert not seen["stopped"], (
        f"{node.name}: holds {' '.join(sorted(seen['stopped']))} although it is off, expected none"
    )
    wrong = {when: what for when, what in seen.items() if when != "stopped" and what != wanted}
    assert not wrong, "; ".join(
        f"{node.name}: {when}, it holds {' '.join(sorted(what)) or 'nothing'}, expected {' '.join(sorted(wanted))}"
        for when, what in wrong.items()
    )


def owner_of_devices(config: ClusterConfig) -> NodeConfig:
    """The first machine that starts by itself and is given devices."""
    found = [node for node in config.nodes if node.devices and node.auto_start]
    assert found, (
        f"cluster {config.name!r}: no machine that starts by itself is given a device; nothing was put to the test"
    )
    return found[0]


def claim_for(config: ClusterConfig, journal: Path) -> tuple[bool, str]:
    """Whether the devices of a cluster's machine can be claimed, and the entries or the refusal in words."""
    try:
        return True, str(claim(config, owner_of_devices(config), Journal(journal)))
    except ProvisionError as error:
        return False, str(error)


def claimed(config: ClusterConfig, node: NodeConfig) -> set[str]:
    """The addresses that the machine holds now."""
    return {one.address for one in held() if (one.cluster, one.machine) == (config.name, node.name)}


def _addresses(node: NodeConfig) -> str:
    return " ".join(device.address for device in node.devices)
