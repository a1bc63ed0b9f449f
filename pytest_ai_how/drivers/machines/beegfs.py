"""What BeeGFS needs on each machine: the servers' and the client's settings, the key, the mount and its folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_ai_how.config.models import BeeGfs, ClusterConfig, NodeConfig
from pytest_ai_how.drivers.machines.shared import registry_settings

KEY_FILE = "/etc/beegfs/conn.auth"
# Seconds without a word until a target is offline. The default is 180; on one bridge silence means more.
_OFFLINE_AFTER = 90
# What bounds I/O to a server that is gone; STO-28 allows 180 s in all. The client makes six tries of this, each with a
# wait of 5 s and as much again for a machine that does not answer, and does so for the write and again for the close.
_RETRY_FOR = 30
# Milliseconds, long, medium and short: how long an answer is waited for that was asked for when the server died. The
# default of 600 000 kept a writer for 243 s, until the machine was back, with retries of 75 s, and for 199 s with 30 s
# of retries (8.3.1); with these and 30 s of retries it was told after 120 s (7.4.7, one run of each).
_MESSAGING = (60_000, 60_000, 30_000)
# Room for more targets of a server, numbered on: 101, 102, …
_TARGETS_A_SERVER = 100


@dataclass(frozen=True, slots=True)
class Target:
    """The numbers of a storage server and of its one target: 1 and 101, 2 and 201, …"""

    server: int
    target: int


def storage_targets(config: ClusterConfig) -> dict[str, Target]:
    """The storage target of each node with the role ``storage``, by node, numbered in the order of the file."""
    nodes = config.on("storage")
    return {node.name: Target(n, n * _TARGETS_A_SERVER + 1) for n, node in enumerate(nodes, 1)}


def settings(config: ClusterConfig) -> BeeGfs | None:
    """How BeeGFS is to be set up; None where the shared file system is another, or not made by us."""
    return config.storage.beegfs if config.storage.kind == "beegfs" else None


def beegfs_names(config: ClusterConfig) -> Mapping[str, Any]:
    """What the templates ``beegfs-*`` and ``shared.conf`` know beside what all templates know."""
    return {
        "beegfs": settings(config),
        "targets": storage_targets(config),
        "offline_after": _OFFLINE_AFTER,
        "retry_for": _RETRY_FOR,
        "messaging": ",".join(map(str, _MESSAGING)),
        "user": config.user,
    }


def beegfs_files(
    config: ClusterConfig, node: NodeConfig, key: bytes, text: Callable[[str], str]
) -> Iterator[tuple[str, bytes, int]]:
    """Path, content and mode of BeeGFS's files on ``node``; ``text`` renders a template for it. None without BeeGFS."""
    beegfs = settings(config)
    if beegfs is None:
        return
    if beegfs.authentication:
        yield KEY_FILE, key, 0o400
    for path, template in _templates(beegfs, node).items():
        yield path, text(template).encode(), 0o644
    if "controller" in node.roles:
        yield "/etc/ai-how/registry.yaml", registry_settings().encode(), 0o644


def _templates(beegfs: BeeGfs, node: NodeConfig) -> Mapping[str, str]:
    """The templates of ``node``'s files by path."""
    found = {
        "/etc/ai-how/beegfs": "beegfs.j2",
        "/etc/beegfs/beegfs-client.conf": "beegfs-client.conf.j2",
    }
    if beegfs.generation == "7.4":
        found["/etc/beegfs/beegfs-helperd.conf"] = "beegfs-helperd.conf.j2"
    else:
        found["/etc/ai-how/beegfs-tool"] = "beegfs-tool.j2"
    if "controller" in node.roles:
        management = "beegfs-mgmtd.conf" if beegfs.generation == "7.4" else "beegfs-mgmtd.toml"
        found[f"/etc/beegfs/{management}"] = f"{management}.j2"
        found["/etc/beegfs/beegfs-meta.conf"] = "beegfs-meta.conf.j2"
        found["/etc/ai-how/shared.conf"] = "shared.conf.j2"
    if "storage" in node.roles:
        found["/etc/beegfs/beegfs-storage.conf"] = "beegfs-storage.conf.j2"
    return found
