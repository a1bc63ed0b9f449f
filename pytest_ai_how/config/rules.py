"""What pydantic cannot say of one value: rules between values.

They read the plain values, not the models, so that they still speak when something else in the file is wrong.
Each rule keeps silent about what is not of the shape it needs: that has been reported already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address

from pytest_ai_how.config.capabilities import CAPABILITIES
from pytest_ai_how.config.forms import EXISTING
from pytest_ai_how.config.host_rules import HOST_RULES
from pytest_ai_how.config.machine_rules import MACHINE_RULES
from pytest_ai_how.config.monitoring_rules import MONITORING_RULES
from pytest_ai_how.config.plain import Plain, at, entries, repeated, subnet_of, texts
from pytest_ai_how.config.storage_rules import STORAGE_RULES
from pytest_ai_how.marked import KeyPath, Mistake, nearest, shown

# Slurm reads these words as "every node" or "what follows inherits", resolvers as this machine.
RESERVED = frozenset({"all", "default", "localhost"})
# "<cluster>-<node>" is the machine's name on the host, and host names hold 64 bytes (HOST_NAME_MAX).
MACHINE_NAME_MAX = 64
SERVICE_ACCOUNTS = frozenset({"root", "slurm", "munge", "mysql"})


def broken_rules(data: Plain) -> Iterator[Mistake]:
    """Every rule that ``data``, a cluster's YAML as plain values, breaks."""
    for rule in _RULES:
        yield from rule(data)


def _node_names(data: Plain) -> Iterator[Mistake]:
    nodes = entries(data, "nodes")
    yield from repeated([((*path, "name"), node.get("name")) for path, node in nodes], "node names")
    yield from repeated([((*path, "address"), node.get("address")) for path, node in nodes], "addresses")
    cluster = data.get("name")
    for path, node in nodes:
        name = node.get("name")
        if isinstance(name, str) and name in RESERVED:
            yield Mistake((*path, "name"), f"{shown(name)} has a meaning of its own to Slurm or the resolver")
        if isinstance(name, str) and isinstance(cluster, str) and max(len(name), len(cluster)) <= 32:
            length = len(f"{cluster}-{name}")
            if length > MACHINE_NAME_MAX:
                what = f"makes a machine name of {length} characters ('<cluster>-<node>'), at most {MACHINE_NAME_MAX}"
                yield Mistake((*path, "name"), what)


def _roles(data: Plain) -> Iterator[Mistake]:
    nodes = entries(data, "nodes")
    if not nodes or not all(isinstance(node.get("roles"), list) for _, node in nodes):
        return
    for path, node in nodes:
        roles = [((*path, "roles", index), role) for index, role in texts(node["roles"])]
        yield from repeated(roles, "a node's roles")
    having = [(path, node) for path, node in nodes if _has_role(node, "controller")]
    if not having and not _near_role(nodes, "controller"):
        yield Mistake(("nodes",), "no node has the role controller, expected exactly one")
    for path, _ in having[1:]:
        first = shown(having[0][1].get("name"))
        yield Mistake((*path, "roles"), f"a second controller, expected exactly one (the first is {first})")
    if data.get("slurm") is not None and not _near_role(nodes, "compute"):
        yield Mistake(("nodes",), "no node has the role compute, but slurm needs one")


def _has_role(node: Plain, role: str) -> bool:
    return any(word == role for _, word in texts(node.get("roles")))


def _near_role(nodes: Sequence[tuple[KeyPath, Plain]], role: str) -> bool:
    """Whether a node has ``role``, a misspelt one included: that mistake is enough."""
    words = [word for _, node in nodes for _, word in texts(node.get("roles"))]
    return any(word == role or nearest(word, [role]) for word in words)


def _network(data: Plain) -> Iterator[Mistake]:
    driver = data.get("driver", "auto")
    if data.get("network") is None and driver in ("auto", "nspawn", "libvirt"):
        yield Mistake(("network",), f"is missing; driver '{driver}' makes machines, and they need a network")
    subnet = subnet_of(data)
    if subnet is None:
        return
    if not 16 <= subnet.prefixlen <= 29:
        yield Mistake(("network", "subnet"), f"is {subnet}, expected a prefix from /16 to /29")
        return
    if driver not in EXISTING and (not subnet.is_private or subnet.is_loopback or subnet.is_link_local):
        what = f"is {subnet}, expected a private range (10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16)"
        yield Mistake(("network", "subnet"), what)
    taken = {
        subnet.network_address: "is the network's own address",
        subnet.broadcast_address: "is the broadcast address",
        subnet.network_address + 1: "is the gateway: the bridge itself has it",
    }
    for path, node in entries(data, "nodes"):
        address = _address(node.get("address"))
        if address is None:
            continue
        if address not in subnet:
            yield Mistake((*path, "address"), f"{address} is outside the subnet {subnet}")
        elif address in taken:
            yield Mistake((*path, "address"), f"{address} {taken[address]}")


def _address(value: object) -> IPv4Address | None:
    try:
        return IPv4Address(value) if isinstance(value, str) else None
    except AddressValueError:
        return None


def _partitions(data: Plain) -> Iterator[Mistake]:
    partitions = entries(data, "slurm", "partitions")
    yield from repeated([((*path, "name"), p.get("name")) for path, p in partitions], "partition names")
    for path, partition in partitions:
        name = partition.get("name")
        if isinstance(name, str) and name.lower() in RESERVED:
            yield Mistake((*path, "name"), f"{shown(name)} has a meaning of its own to Slurm")
        yield from _members(data, (*path, "nodes"), partition.get("nodes"))
    defaults = [path for path, partition in partitions if partition.get("default") is True]
    told = any(not isinstance(partition.get("default", False), bool) for _, partition in partitions)
    if partitions and not defaults and not told:
        yield Mistake(("slurm", "partitions"), "no partition is the default, expected exactly one")
    for path in defaults[1:]:
        yield Mistake((*path, "default"), "a second default partition, expected exactly one")


def _members(data: Plain, path: KeyPath, value: object) -> Iterator[Mistake]:
    nodes = {str(node.get("name")): node for _, node in entries(data, "nodes")}
    members = texts(value)
    yield from repeated([((*path, index), name) for index, name in members], "a partition's nodes")
    for index, name in members:
        node = nodes.get(name)
        if node is None:
            yield Mistake((*path, index), f"no node is named {shown(name)}", nearest(name, nodes))
        elif isinstance(node.get("roles"), list) and not _near_role([(path, node)], "compute"):
            yield Mistake((*path, index), f"node {shown(name)} has not the role compute")


def _containers(data: Plain) -> Iterator[Mistake]:
    mount = at(data, "storage", "mount") or "/mnt/shared"
    registry, fallback = at(data, "containers", "registry"), at(data, "containers", "fallback")
    shared = f"{mount}/"
    if at(data, "storage", "kind") == "none" and isinstance(registry, str) and registry.startswith(shared):
        yield Mistake(("containers", "registry"), f"lies under {shown(mount)}, but storage.kind is none")
    if isinstance(fallback, str) and fallback.startswith(shared):
        yield Mistake(("containers", "fallback"), f"lies under {shown(mount)}, the storage whose loss it is for")
    images = [(("containers", "images", index), name) for index, name in texts(at(data, "containers", "images"))]
    yield from repeated([(path, name.removesuffix("-cuda")) for path, name in images], "images")


def _user(data: Plain) -> Iterator[Mistake]:
    user = data.get("user")
    if isinstance(user, str) and user in SERVICE_ACCOUNTS:
        yield Mistake(("user",), f"{shown(user)} is a system account; jobs run as an ordinary user")


def _absent(data: Plain) -> Iterator[Mistake]:
    names = [(("absent", index), name) for index, name in texts(data.get("absent"))]
    yield from repeated(names, "capabilities")
    for path, name in names:
        if name not in CAPABILITIES:
            hint = nearest(name, CAPABILITIES) or "known: " + ", ".join(CAPABILITIES)
            yield Mistake(path, f"no capability is named {shown(name)}", hint)


_RULES: tuple[Callable[[Plain], Iterator[Mistake]], ...] = (
    _user,
    _network,
    _node_names,
    _roles,
    *HOST_RULES,
    *MACHINE_RULES,
    *STORAGE_RULES,
    *MONITORING_RULES,
    _partitions,
    _containers,
    _absent,
)
