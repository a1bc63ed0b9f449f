"""Undoing what was made with libvirt: domains, networks, the private daemon. Only what carries the cluster's mark."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from pytest_ai_how.drivers.libvirt import api, daemon, names
from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.journal import Entry
from pytest_ai_how.lease.processes import Processes
from pytest_ai_how.lease.state import checked_name, cookie
from pytest_ai_how.lease.undo import Undo

_log = logging.getLogger(__name__)


class Domains:
    """Undoes ``domain`` entries: ``cluster``, ``node``, and the ``daemon`` that it was defined in.

    What a private daemon had defined went with its folders; its machines end with their processes.
    """

    kind = "domain"

    def undo(self, data: Mapping[str, str], deadline: float) -> None:  # noqa: ARG002  the Undo protocol's signature
        """End the machine at once and forget it."""
        with _found(data, api.find_domain, _machine_uuid(data)) as domain:
            if domain is None or not _is_ours(domain, names.machine_mark(data["cluster"], data["node"])):
                return
            api.destroy(domain)
            domain.undefineFlags(api.UNDEFINE_ALL)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The domain, when libvirt knows it and it is ours."""
        mark = names.machine_mark(data["cluster"], data["node"])
        with _found(data, api.find_domain, _machine_uuid(data)) as domain:
            if domain is not None and _is_ours(domain, mark):
                return [f"domain {names.machine_name(data['cluster'], data['node'])} in libvirt ({data['daemon']})"]
        return []


class Networks:
    """Undoes ``libvirt-network`` entries: ``cluster`` and ``daemon``."""

    kind = "libvirt-network"

    def undo(self, data: Mapping[str, str], deadline: float) -> None:  # noqa: ARG002  the Undo protocol's signature
        """Stop the network and forget it."""
        with _found(data, api.find_network, names.network_uuid(data["cluster"])) as network:
            if network is None or not _is_ours(network, cookie(data["cluster"])):
                return
            if network.isActive():
                network.destroy()
            network.undefine()

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The network, when libvirt knows it and it is ours."""
        with _found(data, api.find_network, names.network_uuid(data["cluster"])) as network:
            if network is not None and _is_ours(network, cookie(data["cluster"])):
                return [f"network {names.network_name(data['cluster'])} in libvirt ({data['daemon']})"]
        return []


class Daemon:
    """Undoes ``daemon`` entries: the processes with the mark ``cookie``.

    Unlike other processes it is not asked to end before everything else is undone: the machines are undone through it.
    """

    kind = "daemon"

    def __init__(self) -> None:
        self._processes = Processes()

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Ask it to end, wait, and kill it when it does not."""
        self._processes.undo(data, deadline)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """Its processes that still run."""
        return self._processes.remains(data)


def found_in_libvirt(cluster: str) -> list[Entry]:
    """What a running daemon knows of a cluster, by the marks in its metadata, in an order to be made in.

    A private daemon's need not be looked for: without its processes and folders there is nothing of it.
    """
    mark, uri = cookie(checked_name(cluster)), daemon.running_daemon()
    if not uri:
        return []
    with api.connected(uri) as connection:
        networks = [net for net in api.listed(connection.listAllNetworks) if names.owner_in(net.XMLDesc()) == mark]
        owners = [names.owner_in(domain.XMLDesc()) for domain in connection.listAllDomains()]
    nodes = [owner.removeprefix(f"{mark}/") for owner in owners if owner.startswith(f"{mark}/")]
    found = [Entry(Networks.kind, {"cluster": cluster, "daemon": uri}) for _ in networks]
    return found + [Entry(Domains.kind, {"cluster": cluster, "node": node, "daemon": uri}) for node in nodes]


def undoer(kind: str) -> Undo:
    """The undoer for a kind of entry that the libvirt driver writes."""
    for one in (Domains, Networks, Daemon):
        if one.kind == kind:
            return one()
    raise LeaseError("journal", f"the libvirt driver makes no {kind!r}")


def _machine_uuid(data: Mapping[str, str]) -> str:
    return names.machine_uuid(data["cluster"], data["node"])


def _is_ours(known: api.Domain | api.Network, mark: str) -> bool:
    if names.owner_in(known.XMLDesc()) == mark:
        return True
    _log.warning("libvirt: %s does not carry the mark %s: left alone", known.name(), mark)
    return False


@contextmanager
def _found(
    data: Mapping[str, str], find: Callable[[api.Connection, str], api.Domain | api.Network | None], uuid: str
) -> Iterator[api.Domain | api.Network | None]:
    """What libvirt knows by ``uuid``; None when it knows nothing, or when the private daemon is gone."""
    cluster = checked_name(data["cluster"])
    if data["daemon"] == daemon.PRIVATE and not daemon.is_up(cluster):
        yield None
        return
    with api.connected(daemon.address(cluster, data["daemon"])) as connection:
        yield find(connection, uuid)
