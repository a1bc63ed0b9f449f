"""What this host has for the machines, which versions its hypervisor has, and what is in their way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import AiHowError

#: Kernel modules of other hypervisors. Each claims the CPU's virtualisation for itself while one of its machines runs.
RIVALS: Mapping[str, str] = MappingProxyType({"vboxdrv": "VirtualBox", "vmmon": "VMware"})
#: What the versions count of, and the programs that tell them; the first that is there does.
VERSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"qemu": ("qemu-system-x86_64",), "libvirt": ("libvirtd", "virtqemud")}
)
# stat(2): st_blocks counts these, in bytes.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Host:
    """What this host is now.

    ``meminfo`` and ``modules`` are proc(5)'s files of that name; ``versions`` is what each program of :data:`VERSIONS`
    printed, empty where it is not installed. ``disk_free`` is in bytes, and so is ``disk_held``: what the disks of the
    cluster's machines, where they are made, take already.
    """

    cpus: int
    meminfo: str
    disk: Path
    disk_free: int
    modules: str
    account: str
    versions: Mapping[str, str]
    disk_held: int = 0

    def memory(self, field: str) -> int:
        """A field of ``meminfo`` in MiB.

        >>> Host(2, "MemTotal:  2048 kB", Path("/"), 0, "", "root", {}).memory("MemTotal")
        2
        """
        return int(dict(line.split(":") for line in self.meminfo.splitlines())[field].split()[0]) // 1024

    @property
    def rivals(self) -> tuple[str, ...]:
        """The hypervisors in the kernel that KVM would share the CPU with."""
        loaded = {line.split()[0] for line in self.modules.splitlines() if line.strip()}
        return tuple(f"{name} (module {module})" for module, name in RIVALS.items() if module in loaded)


@dataclass(frozen=True, slots=True)
class Able:
    """What became of asking the driver: ``up`` says that the machines are made; ``refusals`` why they can't be."""

    facts: HostFacts
    up: bool
    refusals: tuple[AiHowError, ...]


def read_host(state: Path) -> Host:
    """Read it; ``state`` is where the machines' files will lie."""
    disk = next(path for path in (state, *state.parents) if path.exists())
    # A kernel without modules has no such file.
    modules = Path("/proc/modules")
    groups = subprocess.run(["id"], capture_output=True, text=True, check=True).stdout.strip()
    return Host(
        os.cpu_count() or 0,
        Path("/proc/meminfo").read_text(),
        disk,
        shutil.disk_usage(disk).free,
        modules.read_text() if modules.exists() else "",
        groups,
        {name: _version(programs) for name, programs in VERSIONS.items()},
        sum(layer.stat().st_blocks * _BLOCK for layer in (state / "machines/nodes").glob("*/disk.qcow2")),
    )


def disks(config: ClusterConfig) -> int:
    """The GiB that the machines' disks may grow to: each is a sparse layer over the image, and empty at first."""
    return sum(node.disk for node in config.nodes)


def major(said: str) -> int:
    """The first number of a version; 0 where none is told.

    >>> major("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"), major("libvirtd (libvirt) 9.0.0")
    (7, 9)
    """
    found = re.search(r"(?:version|\)) (\d+)\.", said)
    return int(found[1]) if found else 0


def table(config: ClusterConfig, host: Host, able: Able) -> str:
    """What was seen, for a person."""
    starting = [node for node in config.nodes if node.auto_start]
    rows = {
        "driver": "; ".join((able.facts.driver, *able.facts.notes)),
        "machines": "up" if able.up else "to be made",
        "CPUs": f"{host.cpus}; the machines have {sum(node.cpus for node in starting)}, which share them",
        "memory": f"{host.memory('MemAvailable')} of {host.memory('MemTotal')} MiB; "
        f"the machines have {sum(node.memory for node in starting)}",
        "disk": f"{host.disk_free // 2**20} MiB free below {host.disk}{_layers(config, host, able)}",
        "account": host.account,
        "other hypervisors": ", ".join(host.rivals) or "none",
        **{name: said or "not installed" for name, said in host.versions.items()},
        **{f"without {name}": why for name, why in able.facts.absent.items()},
    }
    return "\n".join(f"{name}: {value}" for name, value in rows.items())


def _layers(config: ClusterConfig, host: Host, able: Able) -> str:
    if able.facts.driver != "libvirt":
        return ""
    held, most = host.disk_held // 2**20, disks(config)
    return f"; the machines' disks are sparse, hold {held} MiB and may grow to {most} GiB together"


def _version(programs: tuple[str, ...]) -> str:
    found = next((program for program in programs if shutil.which(program)), "")
    if not found:
        return ""
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False, timeout=20)
    return (told.stdout.strip().splitlines() or [""])[0]
