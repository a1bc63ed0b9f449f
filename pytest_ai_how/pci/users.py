"""Which processes have a PCI function open, told by the files of its driver (drivers: Linux 6.12, NVIDIA 535 to 580).

::

    /dev/vfio/<group>              vfio: the function's whole IOMMU group
    /dev/vfio/devices/vfio<n>      the same by iommufd: the function's folder in /sys has vfio-dev/vfio<n>
    /dev/dri/card<n>, renderD<n>   it has drm/card<n> and drm/renderD<n>
    /dev/nvidia<n>                 /proc/driver/nvidia/gpus/<address>/information says "Device Minor: <n>"

What all cards share (``/dev/nvidiactl``, ``/dev/nvidia-uvm``, ``/dev/vfio/vfio``) tells nothing. Without root, other
accounts' processes are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_GROUP = re.compile(r"/dev/vfio/(\d+)")
_FILES = re.compile(r"/dev/(vfio/\d+|vfio/devices/vfio\d+|dri/(card|renderD)\d+|nvidia\d+)")
_MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)
# So many are named.
_SHOWN = 3


def open_files(proc: Path) -> dict[str, tuple[str, ...]]:
    """The device files that processes have open, and those in words, by their number."""
    found: dict[str, list[str]] = {}
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name) if path.name.isdecimal() else 0):
        targets = {_target(descriptor) for descriptor in _listed(process / "fd")}
        for target in filter(_FILES.fullmatch, targets):
            found.setdefault(target, []).append(f"{text_of(process / 'comm') or 'process'} (pid {process.name})")
    return {file: tuple(names) for file, names in found.items()}


def group_holders(files: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Who has an IOMMU group open; the kernel lets one process have a group at a time."""
    return {group[1]: names[-1] for file, names in files.items() if (group := _GROUP.fullmatch(file))}


def users(
    files: Mapping[str, tuple[str, ...]], functions: Iterable[str], sysfs: Path, proc: Path
) -> dict[str, tuple[str, ...]]:
    """Who has files of single functions open, by address; ``functions`` are the addresses there are."""
    if not files:
        return {}
    found = {
        address: tuple(dict.fromkeys(name for file in _files_of(address, sysfs, proc) for name in files.get(file, ())))
        for address in functions
    }
    return {address: names for address, names in found.items() if names}


def shown(names: Iterable[str]) -> str:
    """Processes in words, a few by name."""
    all_of_them = tuple(names)
    more = len(all_of_them) - _SHOWN
    return ", ".join(all_of_them[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _files_of(address: str, sysfs: Path, proc: Path) -> Iterator[str]:
    folder = sysfs / "bus" / "pci" / "devices" / address
    yield from (f"/dev/vfio/devices/{path.name}" for path in _listed(folder / "vfio-dev"))
    yield from (f"/dev/dri/{path.name}" for path in _listed(folder / "drm"))
    if minor := _MINOR.search(text_of(proc / "driver" / "nvidia" / "gpus" / address / "information")):
        yield f"/dev/nvidia{minor[1]}"


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # not there; another account's process, or one that has just ended
        return []


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def text_of(path: Path) -> str:
    """What a file says; nothing where it can't be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
