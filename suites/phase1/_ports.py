"""The ports that machines listen on: one list, in the roles (``provisioning/roles/*/role.yaml``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_ai_how.config.capabilities import declared_absent
from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.models import Port
from pytest_ai_how.listening import Listener


def declared(config: ClusterConfig, source: Source | None = None) -> tuple[Port, ...]:
    """The ports of all roles that the cluster has a use for, and those that the YAML claims (``claims.ports``)."""
    shipped, absent = source or Source.shipped(), declared_absent(config)
    ours = (port for name in shipped.role_names() for port in shipped.role(name).ports)
    return (*(port for port in ours if port.needs not in absent), *_claimed(config))


def of_node(ports: Iterable[Port], node: NodeConfig) -> tuple[Port, ...]:
    """Those that one machine may listen on."""
    return tuple(port for port in ports if not port.on or set(port.on) & set(node.roles))


def required(ports: Iterable[Port], node: NodeConfig) -> tuple[int, ...]:
    """The TCP ports of a machine that all others must reach."""
    return tuple(sorted({port.number for port in of_node(ports, node) if port.reach and port.protocol == "tcp"}))


def undeclared(ports: Iterable[Port], listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """What others can reach and no port declares. Who can't be told to hold a socket is not held against it."""
    known = tuple(ports)
    return tuple(one for one in listeners if not one.local and not any(_fits(port, one) for port in known))


def _fits(port: Port, seen: Listener) -> bool:
    # beegfs-meta calls its main thread "beegfs-meta/Mai"; the name of a process has 15 characters (comm, proc(5)).
    programs = {program.partition("/")[0] for program in seen.programs}
    return port.holds(seen.protocol, seen.port) and (not programs or port.by in ("", *programs))


def _claimed(config: ClusterConfig) -> Iterator[Port]:
    for claim in config.claims.ports:
        protocol, _, number = claim.partition("/")
        yield Port.model_validate({"protocol": protocol, "number": int(number), "reach": False})
