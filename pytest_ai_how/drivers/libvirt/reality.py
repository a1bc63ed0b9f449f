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
# Units of libvirt's <memory>, as it writes them: KiB.
_KIB_IN_MIB = 1024


def shape(machine: Machine, domain: api.Domain) -> Shape:
    """The machine's CPUs, memory, disk, wire and devices, from its live definition."""
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
    }
    return Shape(parts, _UNTOLD)


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


def _devices(domain: ElementTree.Element) -> list[str]:
    found = domain.findall("./devices/hostdev[@type='pci']/source/address")
    parts = [[int(one.get(key, "0"), 16) for key in ("domain", "bus", "slot", "function")] for one in found]
    return [f"{group:04x}:{bus:02x}:{slot:02x}.{function:x}" for group, bus, slot, function in parts]
