"""What machines are given of this host, by real libvirt. The card is one that no host has, and never starts."""

from __future__ import annotations

import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.config.models import PciDevice
from pytest_ai_how.drivers.libvirt import api, build
from pytest_ai_how.drivers.libvirt.driver import _address, _machine
from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.drivers.libvirt.names import machine_name
from pytest_ai_how.drivers.machines.reality import planned
from pytest_ai_how.drivers.select import libvirt_driver
from pytest_ai_how.errors import HostError, ProvisionError
from pytest_ai_how.machines import Machines
from pytest_ai_how.pci import held
from pytest_ai_how.progress import Silent

from .sample import Made, config, prepare

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a private libvirt daemon needs root"),
    pytest.mark.skipif(bool(host_lacks()), reason=f"driver libvirt {host_lacks()}"),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="apt-get install libvirt-daemon"),
]
NAME, SUBNET = "ahpci", "10.94.0"
# The kernel numbers PCI domains from 0, and virtual ones from 0x10000.
GPU = PciDevice(address="fffe:01:00.0", vendor="10de", device="2805")
AUDIO = PciDevice(address="fffe:01:00.1", vendor="10de", device="22bd", kind="audio")
LAST = (os.cpu_count() or 1) - 1
#: Huge pages of 2 MiB in the memory of a small machine, 512 MiB.
PAGES = 256
# Westmere is old enough for each host, and for QEMU without KVM.
TUNED = {"cpus": 2, "pinning": [LAST, 0], "hugepages": "2M", "cpu_model": "Westmere"}


@pytest.fixture
def off(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Three machines that are defined and left off: one has any CPU, one is given a card, one is tuned."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    gpus = {"kind": "passthrough", "count": 1, "type": "rtx", "devices": (GPU, AUDIO)}
    small = {"cpus": 1, "memory": 512, "disk": 4, "auto_start": False}
    nodes = [
        {"name": "controller", "roles": ["controller"], "address": f"{SUBNET}.10", "cpu_model": "maximum", **small},
        {"name": "gpu01", "roles": ["compute"], "address": f"{SUBNET}.11", "gpus": gpus, **small},
        {"name": "tuned01", "roles": ["compute"], "address": f"{SUBNET}.12", **small, **TUNED},
    ]
    made = prepare(config(NAME, SUBNET, nodes=nodes, storage={"kind": "none"}, slurm=None), libvirt_driver(Silent()))
    try:
        made.up()
        yield made
    finally:
        made.down()
    assert made.traces() == []


def test_a_machine_that_is_left_off_holds_nothing_and_is_told_why_it_can_not_start(off: Made) -> None:
    driver, gpu01 = off.driver, off.config.nodes[1]
    assert {driver.state(off.config, node.name) for node in off.config.nodes} == {"off"}
    assert held() == ()
    with pytest.raises(HostError) as caught:
        driver.start(off.config, "gpu01")
    said = str(caught.value)
    for device in (GPU, AUDIO):
        assert f"gpu01: {device.address} is not there, expected a PCI device {device.ids}" in said
    assert held() == ()
    machine = _machine(off.config, "gpu01")
    with api.connected(_address(off.config)) as connection:
        domain = ET.fromstring(machine.existing(connection).XMLDesc())
    devices = [(one.get("managed"), *_place(one)) for one in domain.findall("./devices/hostdev[@type='pci']")]
    assert devices == [("yes", 0xFFFE, 1, 0, 0), ("yes", 0xFFFE, 1, 0, 1)], "the GPU first, taken and given back"
    # What planning would refuse, libvirt refuses too, and nothing stays held by it.
    with pytest.raises(ProvisionError), api.connected(_address(off.config)) as connection:
        build.switch_on(machine, connection, off.journal.of("machines"))
    assert (held(), driver.state(off.config, gpu01.name)) == ((), "off")


def test_pages_pinning_and_the_cpu_are_defined_as_configured(off: Made) -> None:
    for name, parts in (("tuned01", {"cpu_model", "hugepages", "pinning"}), ("controller", {"cpu_model"})):
        node = next(one for one in off.config.nodes if one.name == name)
        plan, shape = planned(off.config, node), off.driver.shape(off.config, name)
        assert {part: shape.parts[part] for part in parts} == {part: plan[part] for part in parts}
    tuned = ET.fromstring(off.driver.definition(off.config, "tuned01"))
    assert [pin.get("cpuset") for pin in tuned.findall("./cputune/vcpupin")] == [str(LAST), "0"]
    assert [page.get("size") for page in tuned.findall("./memoryBacking/hugepages/page")] == ["2048"]
    cpu = tuned.find("cpu")
    assert cpu is not None
    checked = "partial" if tuned.get("type") == "kvm" else "none"
    assert (cpu.get("mode"), cpu.findtext("model"), cpu.get("check")) == ("custom", "Westmere", checked)


@pytest.fixture
def pages() -> Iterator[Path]:
    """The count of huge pages of 2 MiB that nobody has, of which there are enough for one machine more meanwhile."""
    kept = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    free = kept.with_name("free_hugepages")
    if not kept.exists() or not os.access(kept, os.W_OK):
        pytest.skip("this host's kernel sets no huge pages aside")
    before = kept.read_text()
    kept.write_text(str(int(before) + PAGES))
    try:
        if int(free.read_text()) < PAGES:
            pytest.skip(f"this host has no {2 * PAGES} MiB of memory in whole huge pages")
        yield free
    finally:
        kept.write_text(before)


def test_a_machine_runs_on_its_pages_its_cpus_and_as_its_model(pages: Path, off: Made) -> None:
    machines, free = Machines(off.driver, off.cluster), int(pages.read_text())
    machines.start("tuned01")
    assert free - int(pages.read_text()) == PAGES
    [pinned] = [_pinned(Path(f"/proc/{pid}")) for pid in _running(machine_name(NAME, "tuned01"))]
    assert pinned == {0: str(LAST), 1: "0"}
    told = off.cluster["tuned01"].run("grep", "-m1", "^model name", "/proc/cpuinfo").stdout
    assert "Westmere" in told
    machines.stop("tuned01", force=True)
    assert int(pages.read_text()) == free


def _running(domain: str) -> list[int]:
    found = [one for one in Path("/proc").iterdir() if one.name.isdigit() and (one / "cmdline").exists()]
    return [int(one.name) for one in found if f"guest={domain}," in (one / "cmdline").read_text(errors="replace")]


def _pinned(process: Path) -> dict[int, str]:
    """The host CPUs of each virtual CPU: QEMU calls their threads ``CPU 0/TCG`` or ``CPU 0/KVM``."""
    found = {}
    for thread in (process / "task").iterdir():
        name = (thread / "comm").read_text().strip()
        if name.startswith("CPU "):
            allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)", (thread / "status").read_text(), re.MULTILINE)
            assert allowed
            found[int(name[4:].partition("/")[0])] = allowed[1]
    return found


def _place(hostdev: ET.Element) -> tuple[int, ...]:
    address = hostdev.find("source/address")
    assert address is not None
    return tuple(int(address.get(key, ""), 16) for key in ("domain", "bus", "slot", "function"))
