"""What the kernel shows of PCI functions, IOMMU groups and vfio (Documentation/ABI/testing/sysfs-bus-pci, Linux 6.12).

Read from a tree, ``/sys`` or a copy of it, into values that planning works on::

    bus/pci/devices/0000:01:00.0        a link to the function's folder below devices/pci0000:00/
      vendor device class               0x10de 0x2805 0x030000
      driver  iommu_group               links to bus/pci/drivers/nvidia and kernel/iommu_groups/14
      driver_override                   (null), or the only driver that may bind
      boot_vga                          1 on the card that the firmware put the console on; display controllers only
      graphics/fb0                      there when a frame buffer of this card is one of the kernel's
      config                            configuration space, little endian; its first 64 bytes are for all to read
    kernel/iommu_groups/<n>/devices/    links to the functions of the group; no group at all where the IOMMU is off
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_ai_how.pci.users import group_holders, open_files, shown, text_of, users

VFIO = "vfio-pci"
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
# Offset of the header type in the configuration space (PCI Local Bus 3.0, 6.1); bit 7 says "has several functions".
_HEADER_TYPE = 0x0E
# Base classes and subclasses (PCI Code and ID Assignment Specification 1.16).
_CLASSES: Mapping[str, str] = {
    "0101": "IDE controller",
    "0106": "SATA controller",
    "0108": "NVMe controller",
    "0200": "Ethernet controller",
    "0207": "InfiniBand controller",
    "0300": "VGA controller",
    "0302": "3D controller",
    "0403": "audio device",
    "0600": "host bridge",
    "0601": "ISA bridge",
    "0604": "PCI bridge",
    "0c03": "USB controller",
    "0c05": "SMBus",
    "0c80": "serial bus controller",
    "01": "storage controller",
    "02": "network controller",
    "03": "display controller",
    "04": "multimedia device",
    "05": "memory controller",
    "06": "bridge",
    "0c": "serial bus controller",
    "12": "processing accelerator",
}


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a PCI device. Empty texts: no driver bound, no override, in no IOMMU group, no console.

    ``code`` is the class in six hex digits, ``console`` how this machine's console is on it, ``endpoint`` whether its
    header is of type 0, which bridges' are not.
    """

    address: str
    vendor: str
    device: str
    code: str
    driver: str = ""
    override: str = ""
    group: str = ""
    console: Literal["boot VGA", "frame buffer", ""] = ""
    endpoint: bool = True

    @property
    def ids(self) -> str:
        """``vendor:device``, as lspci -n writes it."""
        return f"{self.vendor}:{self.device}"

    @property
    def slot(self) -> str:
        """The address without its function: what the functions of one card share."""
        return self.address.rpartition(".")[0]

    @property
    def what(self) -> str:
        """Its class in words."""
        return _CLASSES.get(self.code[:4]) or _CLASSES.get(self.code[:2]) or f"class {self.code[:4]}"

    @property
    def is_display(self) -> bool:
        """Whether it is a GPU: VGA, 3D or other display controller."""
        return self.code.startswith("03")

    @property
    def is_bridge(self) -> bool:
        """Whether vfio leaves it alone: another header than type 0, or a host bridge, which no driver binds."""
        return not self.endpoint or self.code.startswith("06")

    def __str__(self) -> str:
        return f"{self.address} ({self.ids} {self.what})"


@dataclass(frozen=True, slots=True)
class Host:
    """The PCI functions of one machine, by address, and what the kernel can do with them.

    ``vfio`` says whether the driver vfio-pci is loaded, can be loaded, or is absent; ``holders`` names the process
    that has an IOMMU group open, by group, ``users`` those that have a function's own files open, by address.
    """

    functions: Mapping[str, Function]
    iommu: bool
    vfio: Literal["loaded", "loadable", "absent"]
    holders: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def group(self, number: str) -> tuple[Function, ...]:
        """The functions of an IOMMU group, by address; none for the empty number."""
        return tuple(one for one in self.functions.values() if number and one.group == number)

    def used_by(self, function: Function) -> tuple[str, ...]:
        """The processes that have the function or its group open, in words."""
        holder = self.holders.get(function.group)
        return tuple(dict.fromkeys((*([holder] if holder else ()), *self.users.get(function.address, ()))))

    def in_use_by(self, function: Function) -> str:
        """The same as one text, a few by name; empty when nobody has it open."""
        return shown(self.used_by(function))


def read_host(sysfs: Path = Path("/sys"), *, proc: Path = Path("/proc"), modules: Path | None = None) -> Host:
    """Read the tree at ``sysfs``; ``modules`` is the running kernel's folder of modules, ``proc`` the processes.

    Another tree than ``/sys`` tells of another machine: give its ``proc`` and ``modules`` with it, or folders that are
    not there. Reads only; what vanishes while it is read counts as not there.
    """
    kernel = modules or Path("/lib/modules") / os.uname().release
    functions = {one.address: one for one in _functions(sysfs)}
    groups = sysfs / "kernel" / "iommu_groups"
    files = open_files(proc)
    loaded = (sysfs / "bus" / "pci" / "drivers" / VFIO).is_dir()
    return Host(
        functions,
        iommu=groups.is_dir() and any(groups.iterdir()),
        vfio="loaded" if loaded else "loadable" if _has_module(kernel, VFIO) else "absent",
        holders=group_holders(files),
        users=users(files, functions, sysfs, proc),
    )


def _functions(sysfs: Path) -> Iterator[Function]:
    folder = sysfs / "bus" / "pci" / "devices"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _ADDRESS.fullmatch(path.name) and (found := _function(path)):
            yield found


def _function(path: Path) -> Function | None:
    vendor, device, code = (text_of(path / name).removeprefix("0x") for name in ("vendor", "device", "class"))
    if not (vendor and device and code):
        return None
    override = text_of(path / "driver_override")
    graphics = path / "graphics"
    frame_buffer = graphics.is_dir() and any(graphics.iterdir())
    return Function(
        address=path.name,
        vendor=vendor,
        device=device,
        code=code,
        driver=_link(path / "driver"),
        override="" if override == "(null)" else override,
        group=_link(path / "iommu_group"),
        console="boot VGA" if text_of(path / "boot_vga") == "1" else "frame buffer" if frame_buffer else "",
        endpoint=_header_type(path / "config") == 0,
    )


def _link(path: Path) -> str:
    """The last part of where a link leads."""
    try:
        return path.readlink().name
    except OSError:
        return ""


def _header_type(path: Path) -> int:
    try:
        with path.open("rb") as config:
            head = config.read(_HEADER_TYPE + 1)
    except OSError:
        return 0
    return head[_HEADER_TYPE] & 0x7F if len(head) > _HEADER_TYPE else 0


def _has_module(folder: Path, name: str) -> bool:
    """Whether the kernel has the module as a file or built in, by its lists (kmod 30, modules.dep(5)).

    ::

    kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz …
    """
    lists = text_of(folder / "modules.dep") + "\n" + text_of(folder / "modules.builtin")
    return re.search(rf"/{re.escape(name)}\.ko(\.\w+)?(:|$)", lists, re.MULTILINE) is not None
