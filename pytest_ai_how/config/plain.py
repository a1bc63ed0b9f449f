"""The plain values of a cluster's YAML, as the rules read them: whatever shape they have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError

from pytest_ai_how.marked import KeyPath, Mistake, shown

Plain = Mapping[str, object]
SYSTEM_FOLDERS = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr")


def at(data: object, *path: str | int) -> object:
    """The value at ``path``, or None where there is none."""
    for part in path:
        if isinstance(data, Mapping) or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data.get(part) if isinstance(data, Mapping) else data[int(part)]
        else:
            return None
    return data


def entries(data: Plain, *path: str) -> list[tuple[KeyPath, Plain]]:
    """The mappings in the list at ``path``, each with its own path."""
    listed = at(data, *path)
    entries = listed if isinstance(listed, list) else []
    return [((*path, index), entry) for index, entry in enumerate(entries) if isinstance(entry, Mapping)]


def texts(value: object) -> list[tuple[int, str]]:
    """The texts in the list ``value``, each with its index."""
    entries = value if isinstance(value, list) else []
    return [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, str)]


def repeated(values: Sequence[tuple[KeyPath, object]], thing: str) -> Iterator[Mistake]:
    """A mistake for each text that stands there a second time; ``thing`` says what must be unique."""
    first: dict[str, KeyPath] = {}
    for path, value in values:
        if not isinstance(value, str):
            continue
        if value in first:
            yield Mistake(path, f"{shown(value)} again; {thing} must be unique")
        first.setdefault(value, path)


def of_the_system(mount: object) -> bool:
    """Whether mounting at ``mount`` would hide a folder of the system."""
    return isinstance(mount, str) and any(mount == top or mount.startswith(f"{top}/") for top in SYSTEM_FOLDERS)


def subnet_of(data: Plain) -> IPv4Network | None:
    """The network of a cluster, where it is written as one."""
    value = at(data, "network", "subnet")
    try:
        return IPv4Network(value) if isinstance(value, str) else None
    except (AddressValueError, NetmaskValueError, ValueError):
        return None
