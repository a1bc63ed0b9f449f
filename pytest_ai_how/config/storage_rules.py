"""Rules about the shared file system, and where BeeGFS comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pytest_ai_how.config.forms import EXISTING
from pytest_ai_how.config.plain import Plain, at, entries, of_the_system, texts
from pytest_ai_how.marked import KeyPath, Mistake, nearest, shown

_BEEGFS: KeyPath = ("storage", "beegfs")
_SOURCES = ("folder", "repository", "mirror")


def _storage(data: Plain) -> Iterator[Mistake]:
    driver = data.get("driver", "auto")
    kind = at(data, "storage", "kind") or "host-directory"
    path: KeyPath = ("storage", "kind")
    if kind == "host-directory" and driver in EXISTING:
        others = "existing, beegfs or none" if driver == "ssh" else "scratch, existing or none"
        yield Mistake(path, f"host-directory needs machines that we make; with driver: {driver} say {others}")
    if kind == "existing" and driver not in EXISTING:
        yield Mistake(path, "'existing' needs driver: ssh or host; a machine just made has no storage yet")
    if kind == "scratch" and driver != "host":
        yield Mistake(
            path, f"'scratch' is a folder of this machine; it needs driver: host, but the driver is {shown(driver)}"
        )
    if kind == "beegfs" and driver == "nspawn":
        yield Mistake(path, "'beegfs' needs a kernel of its own in each node; use driver: libvirt or ssh")
    mount = at(data, "storage", "mount")
    if of_the_system(mount):
        yield Mistake(("storage", "mount"), f"{shown(mount)} belongs to the system; mounting there would hide it")


def _beegfs(data: Plain) -> Iterator[Mistake]:
    kind = at(data, "storage", "kind") or "host-directory"
    section = at(data, *_BEEGFS)
    if kind != "beegfs":
        # A kind that is misspelt has been told; the section is then not the mistake.
        if section is not None and kind in ("host-directory", "existing", "none"):
            yield Mistake(_BEEGFS, f"is for storage.kind beegfs, but the kind is {shown(kind)}")
        return
    made = data.get("driver", "auto") in ("auto", "libvirt")
    if made and section is None:
        yield Mistake(_BEEGFS, "is missing; storage.kind beegfs needs its generation and its packages")
    if made and isinstance(section, Mapping):
        yield from _packages(section)
    if made:
        yield from _targets(data)
    driver = data.get("driver")
    if driver in EXISTING and at(section, "packages") is not None:
        yield Mistake((*_BEEGFS, "packages"), f"nothing is installed on machines that exist already (driver: {driver})")


def _packages(section: Plain) -> Iterator[Mistake]:
    path: KeyPath = (*_BEEGFS, "packages")
    source = section.get("packages")
    if source is None:
        # A key that is near to it is reported as misspelt.
        if not any(nearest(str(key), ["packages"]) for key in section if key != "packages"):
            yield Mistake(path, "is missing; say where BeeGFS comes from: folder, repository or mirror")
    elif isinstance(source, Mapping):
        given = [name for name in _SOURCES if source.get(name) is not None]
        if len(given) != 1 and not source.keys() - set(_SOURCES):
            what = f"gives {' and '.join(given) or 'no source'}, expected exactly one of {', '.join(_SOURCES)}"
            yield Mistake(path, what)


def _targets(data: Plain) -> Iterator[Mistake]:
    nodes = entries(data, "nodes")
    roles = [role for _, node in nodes for _, role in texts(node.get("roles"))]
    told = not nodes or not all(isinstance(node.get("roles"), list) for _, node in nodes)
    if not told and not any(role == "storage" or nearest(role, ["storage"]) for role in roles):
        what = "'beegfs' needs a node with the role storage for its targets, but no node has it"
        yield Mistake(("storage", "kind"), what)


STORAGE_RULES: tuple[Callable[[Plain], Iterator[Mistake]], ...] = (_storage, _beegfs)
