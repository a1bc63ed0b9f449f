"""What libvirt tells of a machine is compared with the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.drivers.libvirt import reality
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.machines.reality import PARTS, Shape, planned

from .fakes import FakeDomain, FakeLibvirt
from .test_xml import GPU, SOUND, config

TUNED: dict[str, Any] = {
    "cpus": 2,
    "cpu_model": "EPYC-Rome",
    "hugepages": "2M",
    "pinning": [4, 6],
    "gpus": {"kind": "passthrough", "count": 1, "devices": [GPU, SOUND]},
}
#: The parts that count of what libvirt 9.0 tells (`virsh dumpxml`) of such a machine, which runs.
LIVE = """\
<domain type='kvm' id='1'>
  <memory unit='KiB'>1048576</memory>
  <memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>
  <vcpu placement='static'>2</vcpu>
  <cputune><vcpupin vcpu='1' cpuset='6'/><vcpupin vcpu='0' cpuset='4'/></cputune>
  <cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC-Rome</model></cpu>
  <devices>
    <disk type='file' device='disk'><source file='/m/disk.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><target dev='tap1'/></interface>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
    </hostdev>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x01' slot='0x00' function='0x1'/></source>
    </hostdev>
  </devices>
</domain>
"""
CPU = LIVE[LIVE.index("<cpu ") : LIVE.index("</cpu>") + len("</cpu>")]


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose end of the wire hangs on the bridge, with a disk as planned."""
    monkeypatch.setattr(reality, "virtual_size", lambda node, disk: 10 * 2**30)
    monkeypatch.setattr(reality, "host_links", lambda: [{"ifname": "tap1", "master": "aihow-lab", "mtu": 1500}])


def told(live: str = LIVE, kept: str = "", **changes: Any) -> tuple[dict[str, str], Shape]:
    """The plan of a machine with its keys changed, and what libvirt tells of it."""
    cluster = config(**TUNED | changes)
    machine = Machine(cluster, cluster.nodes[1], Path("/m"))
    return planned(cluster, machine.node), reality.shape(machine, FakeDomain(FakeLibvirt(), live, kept=kept))


def test_a_machine_is_as_planned() -> None:
    plan, shape = told()
    assert {part: plan[part] for part in shape.parts} == shape.parts
    assert {*shape.parts, *shape.untold} == set(PARTS)
    assert set(shape.untold) == {"address"}


@pytest.mark.parametrize(
    ("old", "new", "part", "is_"),
    [
        ("size='2048'", "size='1048576'", "hugepages", "1G"),
        ("size='2048'", "size='64'", "hugepages", "64 KiB"),
        ("<hugepages><page size='2048' unit='KiB'/></hugepages>", "", "hugepages", "none"),
        ("cpuset='6'", "cpuset='0-7'", "pinning", "4 0-7"),
        ("<vcpupin vcpu='1' cpuset='6'/><vcpupin vcpu='0' cpuset='4'/>", "", "pinning", "none"),
        ("EPYC-Rome", "EPYC", "cpu_model", "EPYC"),
        (CPU, "<cpu mode='host-passthrough' check='none'/>", "cpu_model", "host-passthrough"),
        (CPU, "", "cpu_model", "not told"),
        ("function='0x1'", "function='0x2'", "pci", "0000:01:00.0 0000:01:00.2"),
    ],
)
def test_a_part_that_is_another_is_told(old: str, new: str, part: str, is_: str) -> None:
    assert old in LIVE
    plan, shape = told(LIVE.replace(old, new))
    assert {name: value for name, value in shape.parts.items() if value != plan[name]} == {part: is_}


def test_host_model_is_known_by_what_the_next_start_would_take() -> None:
    kept = LIVE.replace(CPU, "<cpu mode='host-model' check='partial'/>")
    plan, shape = told(kept=kept, cpu_model="host-model")
    assert shape.parts["cpu_model"] == plan["cpu_model"] == "host-model"
    assert told(cpu_model="host-model")[1].parts["cpu_model"] == "EPYC-Rome"
    # Not yet started, it has no model.
    assert told(kept, kept, cpu_model="host-model")[1].parts["cpu_model"] == "host-model"


def test_a_cpu_that_the_driver_chose_is_no_part_of_the_plan() -> None:
    _, shape = told(cpu_model=None)
    assert shape.untold["cpu_model"] == "no model is configured; what the CPU is INF-02 looks at"
    assert "cpu_model" not in shape.parts
