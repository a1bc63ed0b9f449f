"""BeeGFS as a service of the cluster: management and metadata on the controller, a target on each storage node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import AiHowError, ConfigError, Problem
from pytest_ai_how.node import Node
from pytest_ai_how.services.beegfs.client import Client, Module, read_client, read_module, read_mount
from pytest_ai_how.services.beegfs.ctl import Ctl
from pytest_ai_how.services.beegfs.facts import (
    KINDS,
    Entry,
    Kind,
    Package,
    Route,
    Server,
    Target,
    Tool,
)
from pytest_ai_how.services.beegfs.tool import BeegfsTool
from pytest_ai_how.services.bounded import bounded, hung
from pytest_ai_how.services.storage.mounts import Mount
from pytest_ai_how.shell import Result

#: The file system type of a mounted client.
TYPE = "beegfs"
_PACKAGES = ("dpkg-query", "--show", "--showformat=${Package}\\t${Version}\\t${db:Status-Status}\\n", "*beegfs*")
_STORE = "/etc/beegfs/beegfs-storage.conf"
#: Kinds whose servers have targets.
_WITH_TARGETS: tuple[Kind, ...] = ("metadata", "storage")


class BeeGfs:
    """The BeeGFS that the configuration names at ``storage.mount``.

    What is asked of a machine is bounded there by SIGKILL. Verbs return what was found and the answer as evidence.
    """

    name = "beegfs"
    needs: tuple[str, ...] = ()

    def __init__(self, cluster: Cluster) -> None:
        storage = cluster.config.storage
        if storage.kind != "beegfs":
            where = f"is {storage.kind!r}; the service beegfs needs 'beegfs'"
            raise ConfigError([Problem(cluster.name, 0, "storage.kind", where)])
        self.cluster, self.mount = cluster, storage.mount
        self._declared = storage.beegfs.generation if storage.beegfs else None
        self._names: dict[tuple[Kind, int], str] = {}

    @cached_property
    def generation(self) -> str:
        """``7.4`` or ``8``: what the configuration says, or, where it does not, which tool the controller has."""
        if self._declared:
            return self._declared
        has_ctl = self.cluster.controller.run("sh", "-c", "command -v beegfs-ctl", check=False)
        return "7.4" if has_ctl.ok else "8"

    @cached_property
    def tool(self) -> Tool:
        """The command line tool of the generation, on the controller."""
        node = self.cluster.controller
        if self.generation == "7.4":
            return Ctl(node)
        return BeegfsTool(node, {str(one.address): one.name for one in self.cluster.config.nodes})

    def hosts(self, kind: Kind) -> tuple[str, ...]:
        """The names of the nodes that are to have a server of ``kind``: the configuration's word."""
        return self.cluster.on("storage").names if kind == "storage" else (self.cluster.controller.name,)

    def targets(self, kind: Kind = "storage", *, space: bool = False) -> tuple[tuple[Target, ...], Result]:
        """The targets of ``kind`` as the management daemon sees them; ``space`` adds sizes, asked of each server."""
        return self.tool.targets(kind, space=space)

    def nodes(self, kind: Kind) -> tuple[tuple[Server, ...], Result]:
        """The servers of ``kind`` that are registered."""
        return self.tool.servers(kind)

    def entry(self, path: str) -> tuple[Entry, Result]:
        """The stripe pattern of a path below the mount, and the targets of a file."""
        return self.tool.entry(path)

    def check_servers(self) -> tuple[tuple[Route, ...], Result]:
        """Whether each server answers the controller."""
        return self.tool.routes()

    def clients(self) -> dict[str, tuple[Client | None, Result]]:
        """What the client on each node knows, None where none is mounted."""
        return self.cluster.all.map(self._client)

    def _client(self, node: Node) -> tuple[Client | None, Result]:
        client, told = read_client(node)
        return client and self._named(client), told

    def _named(self, client: Client) -> Client:
        """With machines' names for servers. 8's clients know aliases only, and the management daemon what they are."""
        if self.generation == "7.4":
            return client
        if {(server.kind, server.id) for server in client.servers} - self._names.keys():
            with suppress(AiHowError):  # it is down: who judges then sees aliases
                found = [server for kind in KINDS for server in self.nodes(kind)[0]]
                self._names.update({(server.kind, server.id): server.name for server in found})
        return client.named(self._names)

    def modules(self) -> dict[str, tuple[Module, Result]]:
        """The client's kernel module on each node."""
        return self.cluster.all.map(read_module)

    def mounts(self) -> dict[str, tuple[Mount | None, Result]]:
        """What is mounted at the mount point on each node."""
        return self.cluster.all.map(lambda node: read_mount(node, self.mount))

    def versions(self) -> dict[str, tuple[tuple[Package, ...], Result]]:
        """BeeGFS's packages on each node, as dpkg has them."""
        return self.cluster.all.map(_packages)

    def store(self, node: Node) -> str:
        """The folder in which a storage node keeps its target (``storeStorageDirectory``, the first of several)."""
        found = re.search(r"^storeStorageDirectory\s*=\s*([^\s,]+)", node.read(_STORE), re.MULTILINE)
        if found is None:
            raise ConfigError([Problem(f"{node.name}:{_STORE}", 0, "storeStorageDirectory", "is not set")])
        return found[1]

    def chunks(self, entry: Entry) -> dict[str, tuple[int, Result]]:
        """The bytes of a file's chunks that lie in the target of each storage node: read off its own file system."""

        def sizes(node: Node) -> tuple[int, Result]:
            words = ("find", f"{self.store(node)}/chunks", "-name", entry.id, "-printf", "%s\\n")
            told = node.run(*words, check=False)
            return sum(map(int, told.stdout.split())), told

        return self.cluster.on("storage").map(sizes)

    def faults(self) -> tuple[str, ...]:
        """One line for each node that has it not mounted for writing, and for each server or target it misses."""
        found = self.cluster.all.map(lambda node: tuple(self._faults(node)))
        return tuple(fault for faults in found.values() for fault in faults)

    def _faults(self, node: Node) -> Iterator[str]:
        mount, told = read_mount(node, self.mount)
        if hung(told):
            yield f"{node.name}: the table of mounts could not be read in time"
        elif mount is None:
            module, _ = read_module(node)
            yield f"{node.name}: nothing is mounted at {self.mount}" + (f": {module.fault}" if module.fault else "")
        elif mount.type != TYPE:
            yield f"{node.name}: {self.mount} is a {mount.type} file system, expected {TYPE}"
        elif "rw" not in mount.options:
            yield f"{node.name}: {self.mount} is mounted read-only ({','.join(mount.options)})"
        else:
            client, _ = self._client(node)
            yield from (f"{node.name}: {said}" for said in self.differences(client))

    def differences(self, client: Client | None) -> Iterator[str]:
        """How what a client sees differs from what the configuration says and from all being well."""
        if client is None:
            yield f"no client of BeeGFS at {self.mount}"
            return
        for kind in ("management", *_WITH_TARGETS):
            yield from unlike(self.hosts(kind), client.of(kind), kind)
        for kind in _WITH_TARGETS:
            targets = [target for target in client.targets if target.kind == kind]
            without = set(self.hosts(kind)) - {target.server.name for target in targets}
            yield from (f"sees no {kind} target of {name}" for name in sorted(without))
            yield from (f"{target}" for target in targets if not target.well)


def unlike(wanted: tuple[str, ...], found: tuple[Server, ...], kind: Kind) -> Iterator[str]:
    """How the servers of ``kind`` that were found differ from the nodes that are to have one."""
    names = {server.name for server in found}
    yield from (f"has no {kind} server {name}" for name in wanted if name not in names)
    more = sorted(names.difference(wanted))
    yield from (f"has a {kind} server {name} that the configuration does not name" for name in more)


def _packages(node: Node) -> tuple[tuple[Package, ...], Result]:
    told = bounded(node, *_PACKAGES)
    rows = (line.split("\t") for line in told.stdout.splitlines())
    return tuple(Package(row[0], row[1]) for row in rows if row[2:] == ["installed"]), told
