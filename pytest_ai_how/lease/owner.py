"""Who owns a cluster: the live run that holds ``owner.lock``."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import ClusterInUse

OWNER = "owner.lock"


@dataclass(frozen=True, slots=True)
class Owner:
    """A run, its process and its machine."""

    run: str
    pid: int
    host: str

    def __str__(self) -> str:
        if not self.run:
            return f"a run on {self.host} that has just started"
        return f"run {self.run}, pid {self.pid} on {self.host}"


def owner_text(run: str) -> bytes:
    """What the owner writes into its lock file."""
    return json.dumps({"run": run, "pid": os.getpid(), "host": socket.gethostname()}).encode()


def owner_of(state: Path) -> Owner | None:
    """The live owner, or None. Takes no lock, so nobody who wants to own the cluster is turned away by a look."""
    if not _is_locked(state / OWNER):
        return None
    try:
        return Owner(**json.loads((state / OWNER).read_text()))
    except (OSError, ValueError, TypeError):  # it has the lock and is about to write its name
        return Owner("", 0, socket.gethostname())


def in_use(state: Path) -> ClusterInUse:
    """The error for a cluster that a live run owns."""
    owner = owner_of(state) or "a run that has just ended"
    return ClusterInUse(
        f"cluster {state.name!r}",
        f"in use by {owner}",
        expected="a cluster that no live run owns",
        cure="wait for that run to end, or use a cluster with another name, bridge and subnet",
    )


def _is_locked(path: Path) -> bool:
    """Read ``/proc/locks`` (proc(5)): ``1: FLOCK  ADVISORY  WRITE 4242 fe:00:131074 0 EOF`` (Linux 6.1).

    Compared by inode number only: some file systems (btrfs) show another device there than in stat(2).
    """
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return False
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(
        fields[1] == "FLOCK" and fields[3] == "WRITE" and fields[5].rpartition(":")[2] == str(inode) for fields in lines
    )
