"""Rules about ``driver: host``, a machine that is its own only node, and about what only it can have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv4Address

from pytest_ai_how.config.forms import EXISTING
from pytest_ai_how.config.plain import Plain, at, entries, texts
from pytest_ai_how.marked import KeyPath, Mistake, shown

_ROLES = frozenset({"controller", "compute"})


def _launcher(data: Plain) -> Iterator[Mistake]:
    driver, launcher, slurm = data.get("driver", "auto"), data.get("launcher", "slurm"), data.get("slurm")
    if launcher == "direct" and driver != "host":
        yield Mistake(("launcher",), f"'direct' needs driver: host, but the driver is {shown(driver)}")
    elif launcher == "direct":
        if slurm is not None:
            yield Mistake(("slurm",), "is for launcher: slurm, but the launcher is 'direct'")
    elif launcher == "slurm" and driver == "host" and slurm is None:
        where: KeyPath = ("launcher",) if "launcher" in data else ("driver",)
        yield Mistake(
            where, "launcher 'slurm' needs the section slurm, which is missing; without Slurm say launcher: direct"
        )


def _python(data: Plain) -> Iterator[Mistake]:
    python = data.get("python")
    if python is None:
        return
    driver, runtime = data.get("driver", "auto"), at(data, "containers", "runtime") or "apptainer"
    if driver not in EXISTING:
        yield Mistake(("python",), f"needs driver: host or ssh, but the driver is {shown(driver)}")
    elif runtime != "none":
        what = f"is for containers.runtime none, but the runtime is {shown(runtime)}, whose images have their own"
        yield Mistake(("python",), what)
    elif isinstance(python, str) and not python.startswith(("/", "~/")):
        yield Mistake(("python",), f"is {shown(python)}, expected a path that starts with / or ~/")


def _one_machine(data: Plain) -> Iterator[Mistake]:
    if data.get("driver") != "host":
        return
    if data.get("network") is not None:
        yield Mistake(("network",), "is not for driver: host; this machine keeps the network that it has")
    nodes = entries(data, "nodes")
    for path, _ in nodes[1:]:
        yield Mistake(
            path, f"a second node, expected exactly one: with driver: host this machine is {_name(nodes[0][1])}"
        )
    for path, node in nodes[:1]:
        yield from _only_node(path, node)


def _only_node(path: KeyPath, node: Plain) -> Iterator[Mistake]:
    roles = {role for _, role in texts(node.get("roles"))}
    if isinstance(node.get("roles"), list) and not roles >= _ROLES:
        lacks = " and ".join(sorted(_ROLES - roles))
        yield Mistake(
            (*path, "roles"), f"{_name(node)} has not the role {lacks}; with driver: host one machine has both"
        )
    address = node.get("address")
    try:
        loopback = not isinstance(address, str) or IPv4Address(address).is_loopback
    except AddressValueError:  # told already
        loopback = True
    if not loopback:
        yield Mistake((*path, "address"), f"is {address}; with driver: host the machine talks to itself: 127.0.0.1")
    if (at(node, "gpus", "kind") or "simulated") == "simulated" and node.get("gpus") is not None:
        what = "'simulated' devices are put into machines that we make; say nvidia, or leave gpus out"
        yield Mistake((*path, "gpus", "kind"), what)


def _name(node: Plain) -> str:
    return shown(node.get("name"))


def _scratch(data: Plain) -> Iterator[Mistake]:
    """The folder is new: nothing is in it, and all that is in it goes away with it."""
    if at(data, "storage", "kind") != "scratch" or data.get("driver") != "host":
        return
    mount = at(data, "storage", "mount")
    if mount is None:
        yield Mistake(("storage", "mount"), "is missing; say which folder is to be made, such as /var/tmp/ai-how")
    if (at(data, "containers", "runtime") or "apptainer") == "none":
        return
    registry = at(data, "containers", "registry")
    if registry is None:
        what = "'scratch' is a new folder and holds no images; say where they are (containers.registry), or that "
        yield Mistake(("storage", "kind"), f"{what}containers.runtime is none")
    elif isinstance(registry, str) and isinstance(mount, str) and f"{registry}/".startswith(f"{mount}/"):
        yield Mistake(("containers", "registry"), "lies in the scratch folder, which is new and holds no images")


HOST_RULES: tuple[Callable[[Plain], Iterator[Mistake]], ...] = (_launcher, _python, _one_machine, _scratch)
