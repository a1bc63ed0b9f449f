"""Undoing network interfaces and control groups."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.files import mounts
from pytest_ai_how.lease.state import carries

_log = logging.getLogger(__name__)
_NET = Path("/sys/class/net")


class Interfaces:
    """Undoes ``bridge`` and ``interface`` entries: ``name``, with ``cookie`` in its alias.

    An interface that carries no alias at all and was never set up (down, no ports) is one that we were killed at
    between making and marking: the journal names it, and the driver had seen that the name was free.
    """

    def __init__(self, kind: str = "bridge") -> None:
        self.kind = kind

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Delete it. One that is not ours is left alone: then ours was never made."""
        link = _link(data)
        if not self._is_ours(link, data["cookie"]):
            if link.exists():
                _log.warning("localhost: interface %s is not ours (no alias %s): left alone", link.name, data["cookie"])
            return
        argv = ["ip", "link", "delete", "dev", link.name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=max(deadline, 1.0))
        if done.returncode and link.exists():
            raise LeaseError("localhost", f"`{' '.join(argv)}` failed: {done.stderr.strip()}")

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The interface, when it is there and ours."""
        return [f"{self.kind} {data['name']}"] if self._is_ours(_link(data), data["cookie"]) else []

    @staticmethod
    def _is_ours(link: Path, cookie: str) -> bool:
        try:
            alias = (link / "ifalias").read_text().strip()
            unfinished = not alias and not _is_up(link) and not list(link.glob("brif/*"))
        except OSError:  # gone, or just going
            return False
        return carries(alias, cookie) or unfinished


def marked_interfaces(cookie: str) -> list[str]:
    """The names of all interfaces whose alias carries ``cookie``."""
    return [link.parent.name for link in sorted(_NET.glob("*/ifalias")) if carries(link.read_text(), cookie)]


def _link(data: Mapping[str, str]) -> Path:
    name = data["name"]
    if not name or "/" in name or name in {".", ".."}:
        raise LeaseError("journal", f"not an interface name: {name!r}")
    return _NET / name


def _is_up(link: Path) -> bool:
    return bool(int((link / "flags").read_text(), 16) & 1)  # IFF_UP, netdevice(7)


class Cgroups:
    """Undoes ``cgroup`` entries: ``path`` (absolute, in a mounted hierarchy of either version) and all groups in it.

    The path must carry ``cookie``: ``/sys/fs/cgroup/memory/pytest-ai-how:local/node01``.
    """

    kind = "cgroup"

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Kill what is left in the groups and remove them, leaf first."""
        top = _group(data)
        if not top.is_dir():
            return
        wait_for(
            lambda: _emptied(top),
            within=deadline,
            what="removed",
            where=str(top),
            every=0.01,
            last_seen=lambda: f"processes {sorted(_pids(top))}",
        )

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The group, when it is there."""
        top = _group(data)
        return [f"cgroup {top}"] if top.exists() else []


def marked_cgroups(cookie: str) -> list[str]:
    """The topmost groups of every mounted hierarchy whose name carries ``cookie``, two levels deep."""
    found = []
    for hierarchy in hierarchies():
        for pattern in ("*", "*/*"):
            for group in sorted(hierarchy.glob(pattern)):
                relative = str(group.relative_to(hierarchy))
                if group.is_dir() and carries(relative, cookie) and not carries(str(Path(relative).parent), cookie):
                    found.append(str(group))
    return found


def hierarchies() -> list[Path]:
    """Where cgroup hierarchies are mounted: several with version 1, one with version 2, both with hybrid."""
    return [Path(mount.target) for mount in mounts() if mount.kind in {"cgroup", "cgroup2"}]


def _group(data: Mapping[str, str]) -> Path:
    path = Path(data["path"])
    inside = any(path.is_relative_to(top) and path != top for top in hierarchies())
    if ".." in path.parts or not inside or not carries(str(path), data.get("cookie") or "\0"):
        raise LeaseError(
            str(path), "not touched: it is no control group with our mark", expected=data.get("cookie", "")
        )
    return path


def _emptied(top: Path) -> bool:
    """Kill, then remove from the leaves up; whether all is gone."""
    groups = [*_leaves_first(top), top]
    try:
        for group in groups:
            _thaw(group)
        for pid in _pids(top) - {os.getpid()}:
            os.kill(pid, signal.SIGKILL)
        for group in groups:
            group.rmdir()
    except (FileNotFoundError, ProcessLookupError):  # it went by itself meanwhile: look again
        return not top.exists()
    except OSError as error:
        if error.errno == errno.EBUSY:  # a killed process has not left yet
            return False
        raise
    return True


def _leaves_first(top: Path) -> Iterator[Path]:
    for folder, below, _ in os.walk(top, topdown=False):
        yield from (Path(folder) / name for name in below)


def _pids(top: Path) -> set[int]:
    found: set[int] = set()
    for group in [top, *_leaves_first(top)]:
        try:
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
        except OSError:  # gone meanwhile, or a threaded group, whose processes its parent lists
            continue
    return found - {0}


def _thaw(group: Path) -> None:
    """A frozen process does not die of SIGKILL (version 1)."""
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if (group / name).exists():
            (group / name).write_text(value)
