"""What a virtual machine is, as libvirt and qemu-img tell it, and what it is to hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

from pytest_ai_how.drivers.libvirt import api
from pytest_ai_how.drivers.libvirt.build import renderer
from pytest_ai_how.drivers.libvirt.disks import virtual_size
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.machines.identity import load_identity
from pytest_ai_how.drivers.machines.network import host_links
from pytest_ai_how.drivers.machines.reality import Shape
from pytest_ai_how.drivers.machines.render import File

_UNTOLD: Mapping[str, str] = MappingProxyType({"address": "a guest sets its own address; libvirt knows its MAC only"})
_NO_MODEL = "no model is configured; what the CPU is INF-02 looks at"
# Units of libvirt's <memory> and <page>, as it writes them: KiB.
_KIB_IN_MIB = 1024
_PAGES: Mapping[str, str] = MappingProxyType({"2048": "2M", "1048576": "1G"})


def shape(machine: Machine, domain: api.Domain) -> Shape:
    """The machine's CPUs, memory, disk, wire and devices, from its live definition.

    Its CPU's model is told where one is configured: otherwise the driver chose it.
    """
    found = ElementTree.fromstring(domain.XMLDesc())  # noqa: S314  libvirtd's own answer
    disk = found.find("./devices/disk[@device='disk']/source")
    gib = virtual_size(machine.node.name, Path(disk.get("file", ""))) / 2**30 if disk is not None else 0
    tap = found.find("./devices/interface/target")
    parts = {
        "cpus": found.findtext("vcpu", "none"),
        "memory": f"{int(found.findtext('memory', '0')) / _KIB_IN_MIB:g} MiB",
        "disk": f"{gib:g} GiB",
        **_wire("" if tap is None else tap.get("dev", "")),
        "pci": " ".join(_devices(found)) or "none",
        "hugepages": " ".join(_pages(found)) or "none",
        "pinning": " ".join(_pinning(found)) or "none",
    }
    if machine.node.cpu_model is None:
        return Shape(parts, {**_UNTOLD, "cpu_model": _NO_MODEL})
    kept = ElementTree.fromstring(domain.XMLDesc(api.INACTIVE))  # noqa: S314  as above
    return Shape({**parts, "cpu_model": _cpu_model(found, kept)}, _UNTOLD)


def files(machine: Machine, folder: Path) -> tuple[File, ...]:
    """The machine's files, rendered anew with the keys below ``folder``."""
    made = renderer(machine.config, load_identity(folder / "keys"), folder / "shared")
    return tuple(made.files(machine.node))


def _wire(tap: str) -> dict[str, str]:
    """The bridge that the host's end of the machine's interface hangs on, and its MTU, from the kernel."""
    for link in host_links():
        if link.get("ifname") == tap:
            return {"bridge": str(link.get("master", "no bridge")), "mtu": str(link["mtu"])}
    return {"bridge": "no interface", "mtu": "no interface"}


def _pages(domain: ElementTree.Element) -> list[str]:
    found = domain.findall("./memoryBacking/hugepages/page")
    return [_PAGES.get(page.get("size", ""), f"{page.get('size')} {page.get('unit')}") for page in found]


def _pinning(domain: ElementTree.Element) -> list[str]:
    """The host's CPU of each of the machine's, in their order."""
    found = domain.findall("./cputune/vcpupin")
    return [pin.get("cpuset", "") for pin in sorted(found, key=lambda pin: int(pin.get("vcpu", "0")))]


def _cpu_model(live: ElementTree.Element, kept: ElementTree.Element) -> str:
    """The mode or the model of the machine's CPU.

    In the definition of a machine that runs, libvirt puts the model in place of host-model.
    """
    cpu, told = live.find("cpu"), kept.find("cpu")
    mode = "" if cpu is None else cpu.get("mode", "")
    if mode != "custom":
        return mode or "not told"
    if told is not None and told.get("mode") == "host-model":
        return "host-model"
    return live.findtext("./cpu/model", "not told")


def _devices(domain: ElementTree.Element) -> list[str]:
    found = domain.findall("./devices/hostdev[@type='pci']/source/address")
    parts = [[int(one.get(key, "0"), 16) for key in ("domain", "bus", "slot", "function")] for one in found]
    return [f"{group:04x}:{bus:02x}:{slot:02x}.{function:x}" for group, bus, slot, function in parts]
