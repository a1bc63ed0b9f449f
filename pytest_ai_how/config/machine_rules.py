"""Rules about what virtual machines are given of the host: devices, memory pages, CPUs, directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pytest_ai_how.config.forms import EXISTING
from pytest_ai_how.config.plain import Plain, at, entries, of_the_system, repeated
from pytest_ai_how.marked import KeyPath, Mistake, shown

# MiB in one page
_PAGE = {"2M": 2, "1G": 1024}
_DRIVERS = ("auto", "nspawn", *EXISTING)


def _only_virtual(data: Plain) -> Iterator[Mistake]:
    """What the other drivers would leave undone without a word."""
    driver = data.get("driver", "auto")
    if driver not in _DRIVERS:
        return
    for path, node in entries(data, "nodes"):
        for key in ("cpu_model", "hugepages", "pinning", "virtiofs"):
            if node.get(key):
                yield Mistake((*path, key), f"needs driver: libvirt, but the driver is {shown(driver)}")
        if node.get("auto_start") is False and driver in EXISTING:
            what = f"'false' needs a driver that makes machines, but the driver is {shown(driver)}"
            yield Mistake((*path, "auto_start"), what)
    if data.get("bringup") == "restore" and driver != "auto":
        yield Mistake(("bringup",), f"'restore' needs driver: libvirt, but the driver is {shown(driver)}")


def _restore(data: Plain) -> Iterator[Mistake]:
    """Neither the other end of a directory nor the state of a device can be saved with a machine."""
    if data.get("bringup") != "restore" or data.get("driver") != "libvirt":
        return
    if (at(data, "storage", "kind") or "host-directory") == "host-directory":
        what = "'restore' can't be had with storage.kind 'host-directory': machines with virtiofs can't be saved"
        yield Mistake(("bringup",), what)
    for path, node in entries(data, "nodes"):
        if node.get("virtiofs"):
            yield Mistake((*path, "virtiofs"), "can't be had with bringup 'restore': such a machine can't be saved")
        if at(node, "gpus", "kind") == "passthrough":
            what = "'passthrough' can't be had with bringup 'restore': such a machine can't be saved"
            yield Mistake((*path, "gpus", "kind"), what)


def _auto_start(data: Plain) -> Iterator[Mistake]:
    for path, node in entries(data, "nodes"):
        roles = node.get("roles")
        if node.get("auto_start") is False and isinstance(roles, list) and "controller" in roles:
            yield Mistake((*path, "auto_start"), "is false, but nothing can be done without the controller")


def _gpus(data: Plain) -> Iterator[Mistake]:
    driver = data.get("driver", "auto")
    for path, node in entries(data, "nodes"):
        kind = at(node, "gpus", "kind")
        if kind == "passthrough" and driver != "libvirt":
            what = f"'passthrough' needs driver: libvirt, but the driver is {shown(driver)}"
            yield Mistake((*path, "gpus", "kind"), what)
        elif isinstance(node.get("gpus"), Mapping):
            yield from _devices(path, node, kind or "simulated")


def _devices(path: KeyPath, node: Plain, kind: object) -> Iterator[Mistake]:
    where: KeyPath = (*path, "gpus", "devices")
    devices = entries(node, "gpus", "devices")
    if kind != "passthrough":
        if devices:
            yield Mistake(where, f"is for kind passthrough, but the kind is {shown(kind)}")
        return
    if not at(node, "gpus", "devices"):
        yield Mistake(where, "is missing; 'passthrough' needs the PCI address and the IDs of every function")
        return
    gpus = [device for _, device in devices if device.get("kind", "gpu") == "gpu"]
    count = at(node, "gpus", "count")
    if isinstance(count, int) and count != len(gpus):
        yield Mistake((*path, "gpus", "count"), f"is {count}, but {len(gpus)} of the devices are of kind gpu")
    yield from _gpu_first([((*path, *inner), device) for inner, device in devices])


def _gpu_first(devices: list[tuple[KeyPath, Plain]]) -> Iterator[Mistake]:
    """The driver in the guest looks for the card's own function first; its audio function comes behind it."""
    before: dict[str, object] = {}
    for path, device in devices:
        address = device.get("address")
        if not isinstance(address, str):
            continue
        slot = address.rpartition(".")[0]
        if device.get("kind", "gpu") == "gpu" and slot in before:
            what = f"the GPU {shown(address)} comes after {shown(before[slot])} of the same card; list the GPU first"
            yield Mistake((*path, "address"), what)
        elif device.get("kind", "gpu") != "gpu":
            before.setdefault(slot, address)


def _device_owners(data: Plain) -> Iterator[Mistake]:
    """A device stands once in a machine, and has one owner among the machines that start by themselves."""
    owners: dict[str, tuple[KeyPath, object]] = {}
    for path, node in entries(data, "nodes"):
        listed = entries(node, "gpus", "devices")
        devices = [((*path, *inner, "address"), device.get("address")) for inner, device in listed]
        yield from repeated(devices, "a machine's devices")
        if node.get("auto_start") is False:
            continue
        for where, address in devices:
            if not isinstance(address, str):
                continue
            owner, name = owners.setdefault(address, (path, node.get("name")))
            if owner != path:
                what = f"{shown(address)} is given to {shown(name)}; one machine that starts by itself owns a device"
                yield Mistake(where, what, "auto_start: false on the other")


def _pages_and_cpus(data: Plain) -> Iterator[Mistake]:
    for path, node in entries(data, "nodes"):
        memory, page = node.get("memory", 1024), _PAGE.get(str(node.get("hugepages")))
        if page and isinstance(memory, int) and memory % page:
            what = f"pages of {node['hugepages']} do not divide the memory, {memory} MiB"
            yield Mistake((*path, "hugepages"), what)
        cpus, pinning = node.get("cpus", 2), node.get("pinning")
        if isinstance(pinning, list) and isinstance(cpus, int) and len(pinning) != cpus:
            what = f"names {len(pinning)} host CPUs, but the machine has {cpus}; expected one for each"
            yield Mistake((*path, "pinning"), what)


def _virtiofs(data: Plain) -> Iterator[Mistake]:
    shared = at(data, "storage", "mount") or "/mnt/shared"
    uses_shared = at(data, "storage", "kind") != "none"
    for path, node in entries(data, "nodes"):
        mounts = [((*path, *inner), mount) for inner, mount in entries(node, "virtiofs")]
        yield from repeated([((*where, "tag"), mount.get("tag")) for where, mount in mounts], "a machine's tags")
        yield from repeated([((*where, "mount"), m.get("mount")) for where, m in mounts], "a machine's mount points")
        for where, mount in mounts:
            point = mount.get("mount")
            if of_the_system(point):
                what = f"{shown(point)} belongs to the system; mounting there would hide it"
                yield Mistake((*where, "mount"), what)
            elif uses_shared and point == shared:
                yield Mistake((*where, "mount"), f"{shown(point)} is where the shared file system is mounted")


MACHINE_RULES: tuple[Callable[[Plain], Iterator[Mistake]], ...] = (
    _only_virtual,
    _restore,
    _auto_start,
    _gpus,
    _device_owners,
    _pages_and_cpus,
    _virtiofs,
)
