"""What an nspawn machine is, as this host's kernel tells it, and what it is to hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_ai_how.drivers.machines.identity import load_identity
from pytest_ai_how.drivers.machines.network import host_links
from pytest_ai_how.drivers.machines.reality import Shape
from pytest_ai_how.drivers.machines.render import Confinement, File, Renderer
from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.drivers.nspawn.gpus import numbers
from pytest_ai_how.drivers.nspawn.machine import Machine
from pytest_ai_how.drivers.nspawn.power import inits
from pytest_ai_how.errors import ProvisionError

_UNTOLD: Mapping[str, str] = MappingProxyType(
    {
        "cpus": "systemd-nspawn machines see all CPUs of this host; Slurm's own count is SLU-07's",
        "disk": "the disk is an overlay on a file system of this host, without a size of its own",
        **dict.fromkeys(("cpu_model", "hugepages", "pinning"), "systemd-nspawn machines share this host's kernel"),
    }
)


def shape(machine: Machine) -> Shape:
    """The machine's interface on the bridge, its memory limit, and that it has no device of this host.

    Raises :class:`ProvisionError` naming the machine when it does not run.
    """
    found = inits(machine)
    if not found:
        raise ProvisionError(machine.node.name, "does not run", expected="a machine to look at")
    inside = _addresses(machine, found[0].pid)
    parts = {**wire(inside, host_links()), "pci": "none"}
    untold = dict(_UNTOLD)
    limits = [limit for group in read_cgroups().groups(machine.cookie) if (limit := _memory(group))]
    if limits:
        parts["memory"] = f"{min(limits) / 2**20:g} MiB"
    else:
        untold["memory"] = "this host has no memory controller in its control groups"
    return Shape(parts, untold)


def files(machine: Machine, keys: Path) -> tuple[File, ...]:
    """The machine's files, rendered anew."""
    cgroups = read_cgroups()
    confinement = Confinement(cgroups.plugin, cgroups.absent())
    renderer = Renderer(machine.config, load_identity(keys), confinement, numbers=partial(numbers, machine.config))
    return tuple(renderer.files(machine.node))


def wire(inside: Iterable[Mapping[str, Any]], outside: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The machine's interface and what it hangs on, from `ip -json -details address` in the machine and on the host.

    iproute2 6.1: ``link_index`` of the interface in the machine is ``ifindex`` of its other end on the host, whose
    ``master`` is the bridge. Several interfaces are told with commas between them.
    """
    ends = {link["ifindex"]: link for link in outside}
    links = [link for link in inside if link["ifname"] != "lo"]
    addresses = [
        f"{one['local']}/{one['prefixlen']}"
        for link in links
        for one in link.get("addr_info", ())
        if one["family"] == "inet"
    ]
    bridges = [str(ends.get(link.get("link_index"), {}).get("master", "no bridge")) for link in links]
    return {
        "bridge": ", ".join(bridges) or "no interface",
        "mtu": ", ".join(str(link["mtu"]) for link in links) or "no interface",
        "address": ", ".join(addresses) or "no address",
    }


def _addresses(machine: Machine, pid: int) -> list[Mapping[str, Any]]:
    argv = ["nsenter", f"--target={pid}", "--net", "ip", "-json", "-details", "address"]
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    if told.returncode:
        raise ProvisionError(machine.node.name, f"`{' '.join(argv)}` failed: {told.stderr.strip()}")
    found: list[Mapping[str, Any]] = json.loads(told.stdout)
    return found


def _memory(group: Path) -> int:
    """The group's memory limit in bytes (version 1, version 2); 0 when it has none."""
    for name in ("memory.limit_in_bytes", "memory.max"):
        path = group / name
        if path.exists() and (text := path.read_text().strip()) != "max":
            return int(text)
    return 0
