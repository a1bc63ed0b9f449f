"""The PCI devices of a host for people, for programs, and as the section of a cluster's YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytest_ai_how.pci.sysfs import Function, Host

_HEAD = ("ADDRESS", "IDS", "WHAT", "DRIVER", "GROUP", "")
_KINDS = {"03": "gpu", "04": "audio", "0c03": "usb", "02": "network", "01": "storage"}


def shown(host: Host, *, everything: bool = False) -> tuple[Function, ...]:
    """The GPUs and what goes with them, their cards' other functions and their groups; or all functions."""
    gpus = [one for one in host.functions.values() if one.is_display]
    slots = {one.slot for one in gpus}
    groups = {one.group for one in gpus if one.group}
    return tuple(
        one for one in host.functions.values() if everything or one.slot in slots or (one.group and one.group in groups)
    )


def table(host: Host, functions: Iterable[Function]) -> list[str]:
    """One line for each function, by address, and above them what the host can do."""
    rows = [_HEAD, *(_row(host, one) for one in functions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [_ability(host), *(lines if len(rows) > 1 else ["no GPU"])]


def as_data(host: Host, functions: Iterable[Function]) -> dict[str, Any]:
    """The same as JSON data."""
    return {
        "iommu": host.iommu,
        "vfio_pci": host.vfio,
        "functions": [
            {
                "address": one.address,
                "vendor": one.vendor,
                "device": one.device,
                "class": one.code,
                "what": one.what,
                "driver": one.driver or None,
                "driver_override": one.override or None,
                "iommu_group": int(one.group) if one.group else None,
                "console": one.console or None,
                "bridge": one.is_bridge,
                "held_by": host.in_use_by(one) or None,
            }
            for one in functions
        ],
    }


def as_yaml(host: Host) -> list[str]:
    """The ``gpus`` section that gives a machine one card, for each card: whole groups, each GPU before its audio."""
    gpus = [one for one in host.functions.values() if one.is_display]
    done: set[str] = set()
    lines: list[str] = []
    for gpu in gpus:
        if gpu.address in done:
            continue
        members = [one for one in host.group(gpu.group) or _of_slot(host, gpu) if not one.is_bridge]
        members.sort(key=lambda one: (one.slot, not one.is_display, one.address))
        done |= {one.address for one in members}
        lines += [f"# {gpu}, IOMMU group {gpu.group or 'none'}", *_section(members)]
    return lines or ["# no GPU"]


def _section(members: list[Function]) -> Iterator[str]:
    yield "gpus:"
    yield "  kind: passthrough"
    yield f"  count: {sum(one.is_display for one in members)}"
    yield "  type: nvidia" if members[0].vendor == "10de" else "  type: gpu"
    yield "  devices:"
    for one in members:
        kind = _KINDS.get(one.code[:4]) or _KINDS.get(one.code[:2]) or "other"
        console = f", boot_vga: false}}   # shows this machine's console: {one.console}" if one.console else "}"
        yield f'    - {{address: "{one.address}", vendor: "{one.vendor}", device: "{one.device}", kind: {kind}{console}'


def _of_slot(host: Host, gpu: Function) -> tuple[Function, ...]:
    return tuple(one for one in host.functions.values() if one.slot == gpu.slot)


def _ability(host: Host) -> str:
    iommu = "on" if host.iommu else "off: no device can be given to a machine"
    return f"IOMMU {iommu}; driver vfio-pci {host.vfio}"


def _row(host: Host, one: Function) -> tuple[str, ...]:
    notes = [
        one.console,
        "bridge: not given to machines" if one.is_bridge else "",
        f"only for {one.override}" if one.override and one.override != one.driver else "",
        f"held by {users}" if (users := host.in_use_by(one)) else "",
    ]
    note = ", ".join(note for note in notes if note)
    return one.address, one.ids, one.what, one.driver or "-", one.group or "-", note
