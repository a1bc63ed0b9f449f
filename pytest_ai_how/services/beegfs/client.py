"""What one client knows: its mount, its kernel module, and the servers and targets that the module sees.

Read from the kernel's own files, which answer while servers are gone. Nothing here touches the mounted file system:
whoever does may wait for a dead server, deaf to every signal but SIGKILL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pytest_ai_how.node import Node
from pytest_ai_how.services.beegfs.facts import Kind, Server, Target
from pytest_ai_how.services.bounded import bounded
from pytest_ai_how.services.storage.mounts import FINDMNT, Mount, parse_mount
from pytest_ai_how.shell import Result

#: Where the client module of both generations tells what it knows, a folder for each mount.
PROC = "/proc/fs/beegfs"
_FILES: Mapping[str, Kind] = {
    "mgmt_nodes": "management",
    "meta_nodes": "metadata",
    "storage_nodes": "storage",
    "meta_target_state": "metadata",
    "storage_target_state": "storage",
}
_READ_PROC = f"exec grep -H '' {' '.join(f'{PROC}/*/{name}' for name in (*_FILES, 'config'))}"
_LINE = re.compile(rf"{PROC}/(?P<client>[^/]+)/(?P<file>[a-z_]+):(?P<text>.*)")
_SERVER = re.compile(r"(?P<name>\S.*) \[ID: (?P<id>\d+)\]")
# @ beegfs-storage node01 [ID: 1] (7.4), @ node_storage_1 [beegfs-storage:1] (8)
_STATE = re.compile(
    r"\[Target ID: (?P<target>\d+)\] @ (?:beegfs-\w+ )?(?P<name>.+) \[(?:ID: |beegfs-\w+:)(?P<id>\d+)\]: "
    r"(?P<reach>\S+) / (?P<state>\S+)"
)
_MODULE_FACTS = ("filename", "vermagic", "srcversion", "version")
_READ_MODULE = (
    "echo kernel=$(uname -r); "
    + "".join(f"echo {fact}=$(modinfo -F {fact} beegfs 2>/dev/null); " for fact in _MODULE_FACTS)
    + "echo state=$(cat /sys/module/beegfs/initstate 2>/dev/null); "
    "echo loaded=$(cat /sys/module/beegfs/srcversion 2>/dev/null); "
    "echo built=$(find /lib/modules/ -name 'beegfs.ko*' -print 2>/dev/null)"
)


@dataclass(frozen=True, slots=True)
class Client:
    """What the module of one mounted client knows; ``settings`` by their names in beegfs-client.conf."""

    id: str
    servers: tuple[Server, ...] = ()
    targets: tuple[Target, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: Kind) -> tuple[Server, ...]:
        """The servers of one kind."""
        return tuple(server for server in self.servers if server.kind == kind)

    def named(self, names: Mapping[tuple[Kind, int], str]) -> Client:
        """The same, with other names for the servers of these kinds and numbers."""

        def renamed(server: Server) -> Server:
            return replace(server, name=names.get((server.kind, server.id), server.name))

        targets = tuple(replace(target, server=renamed(target.server)) for target in self.targets)
        return replace(self, servers=tuple(map(renamed, self.servers)), targets=targets)


@dataclass(frozen=True, slots=True)
class Module:
    """The client's kernel module: the running kernel's release, the module's file for it and what it was built for.

    ``path``, ``vermagic`` and ``version`` are '' where there is no module for the running kernel; ``live`` is whether
    it is loaded, ``same`` whether what is loaded is what lies on disk; ``others`` are files for other kernels.
    """

    kernel: str
    path: str
    vermagic: str
    version: str
    live: bool
    same: bool
    others: tuple[str, ...]

    @property
    def built_for(self) -> str:
        """The kernel that the module is for: the first word of its version magic."""
        return self.vermagic.partition(" ")[0]

    @property
    def fault(self) -> str:
        """Why the running kernel can't load it; '' when it can."""
        if not self.path:
            where = f"; there is {', '.join(self.others)}" if self.others else ""
            return f"no BeeGFS module for the running kernel {self.kernel}{where}"
        if self.built_for != self.kernel:
            return f"{self.path} was built for kernel {self.built_for}, the running one is {self.kernel}"
        return ""


def read_client(node: Node) -> tuple[Client | None, Result]:
    """What the client on a machine knows, None when none is mounted; and what its files say."""
    told = bounded(node, "sh", "-c", _READ_PROC)
    return parse_client(told.stdout), told


def read_module(node: Node) -> tuple[Module, Result]:
    """The client's module on a machine, and what was read."""
    told = bounded(node, "sh", "-c", _READ_MODULE)
    return parse_module(told.stdout), told


def read_mount(node: Node, path: str) -> tuple[Mount | None, Result]:
    """What is mounted at ``path`` on a machine, from the kernel's table of mounts, and the answer."""
    told = bounded(node, *FINDMNT, path)
    return parse_mount(told), told


def parse_client(text: str) -> Client | None:
    """Read ``grep -H '' /proc/fs/beegfs/*/…`` (client module 7.4.7, client_module/source/filesystem/ProcFsHelper.c).

    >>> client = parse_client('''/proc/fs/beegfs/5D2-68A-n1/storage_nodes:node02 [ID: 2]
    ... /proc/fs/beegfs/5D2-68A-n1/storage_nodes:   Connections: TCP: 2 (10.0.0.12:8003);
    ... /proc/fs/beegfs/5D2-68A-n1/storage_target_state:[Target ID: 7] @ beegfs-storage node02 [ID: 2]: Online / Good
    ... /proc/fs/beegfs/5D2-68A-n1/config:sysMgmtdHost = controller
    ... ''')
    >>> client.id, client.of("storage")[0].name, str(client.targets[0]), client.settings
    ('5D2-68A-n1', 'node02', 'storage target 7 of node02: Online Good', {'sysMgmtdHost': 'controller'})
    """
    servers: list[Server] = []
    targets: list[Target] = []
    settings: dict[str, str] = {}
    lines = [found for line in text.splitlines() if (found := _LINE.fullmatch(line))]
    for line in lines:
        said, kind = line["text"].rstrip(), _FILES.get(line["file"])
        if kind is None:
            key, _, value = said.partition(" = ")
            settings[key.strip()] = value.strip()
        elif state := _STATE.fullmatch(said):
            server = Server(kind, state["name"], int(state["id"]))
            targets.append(Target(kind, int(state["target"]), server, state["reach"], state["state"]))
        elif found := _SERVER.fullmatch(said):
            servers.append(Server(kind, found["name"], int(found["id"])))
    return Client(lines[0]["client"], tuple(servers), tuple(targets), settings) if lines else None


def parse_module(text: str) -> Module:
    r"""Read ``key=value`` lines of uname(1), modinfo(8) and /sys/module/beegfs.

    >>> module = parse_module("kernel=6.12.57\nfilename=/lib/modules/6.12.57/beegfs.ko.xz\n"
    ...                       "vermagic=6.12.48 SMP preempt mod_unload\nstate=live\n")
    >>> module.live, module.fault
    (True, '/lib/modules/6.12.57/beegfs.ko.xz was built for kernel 6.12.48, the running one is 6.12.57')
    """
    facts = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    path = facts.get("filename", "")
    return Module(
        kernel=facts.get("kernel", ""),
        path=path,
        vermagic=facts.get("vermagic", ""),
        version=facts.get("version", ""),
        live=facts.get("state") == "live",
        # Only a module with a version, or a kernel configured so, has a srcversion; both are '' otherwise.
        same=facts.get("loaded", "") == facts.get("srcversion", ""),
        others=tuple(one for one in facts.get("built", "").split() if one != path),
    )
