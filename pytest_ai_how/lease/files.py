"""Undoing mounts, folders and files. All of them lie in the cluster's state folder, or they are not touched."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded, LeaseError

_log = logging.getLogger(__name__)
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8  # umount2(2)
# Busy mounts are given this long after their processes ended (seconds), then they are detached.
_BUSY = 2.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table: where, and the file system's type."""

    target: str
    kind: str


def mounts(table: Path = Path("/proc/self/mountinfo")) -> tuple[Mount, ...]:
    r"""Read this process's mounts in the order of mounting (proc(5)); blanks in paths are written as ``\040``.

    ``36 35 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu`` (Linux 6.1): the fifth field is
    the mount point, the one behind the dash the type.
    """
    found = []
    for line in table.read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        found.append(Mount(_unescape(fields[4]), fields[fields.index("-") + 1]))
    return tuple(found)


def mounts_below(path: Path) -> tuple[str, ...]:
    """The mount points at ``path`` and below it, in the order of mounting."""
    top = path.resolve()
    return tuple(mount.target for mount in mounts() if Path(mount.target).is_relative_to(top))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it. Follows no link and crosses no mount; gone already is no error.

    Raises :class:`LeaseError` when something is mounted in it or a part can't be removed.
    """
    if mounted := mounts_below(path):
        raise LeaseError(str(path), f"not removed: {', '.join(mounted)} is mounted", cure=f"umount {mounted[-1]}")
    if path.is_symlink():
        raise LeaseError(str(path), "not removed: is a symbolic link where a folder was made")
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LeaseError(str(error.filename or path), f"can't be removed ({error.strerror})") from error


class Mounts:
    """Undoes ``mount`` entries: ``target`` and everything mounted below it."""

    kind = "mount"

    def __init__(self, state: Path) -> None:
        self._state = state

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        """Unmount, last mounted first; a mount that stays busy is detached at last, which the log says."""
        target = _within(self._state, data["target"])
        for one in reversed(mounts_below(target)):
            _within(self._state, one)
            try:
                wait_for(partial(_unmount, one), within=min(deadline, _BUSY), what="unmounted", every=0.01)
            except DeadlineExceeded:
                _log.warning("localhost: %s stayed busy and was detached (umount --lazy)", one)
                _unmount(one, _MNT_DETACH)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The mounts that are still there."""
        return [f"mount {one}" for one in mounts_below(_within(self._state, data["target"]))]


class Directories:
    """Undoes ``directory`` entries: ``path`` with all that is in it."""

    kind = "directory"

    def __init__(self, state: Path) -> None:
        self._state = state

    def undo(self, data: Mapping[str, str], deadline: float) -> None:  # noqa: ARG002  the Undo protocol's signature
        """Remove the tree; refuse to cross a mount."""
        remove_tree(_within(self._state, data["path"]))

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The folder, when it is there."""
        return _there("directory", _within(self._state, data["path"]))


class Files:
    """Undoes ``file`` entries: one file, link, pipe or socket at ``path``."""

    kind = "file"

    def __init__(self, state: Path) -> None:
        self._state = state

    def undo(self, data: Mapping[str, str], deadline: float) -> None:  # noqa: ARG002  the Undo protocol's signature
        """Remove the file itself, never what a link points to."""
        _within(self._state, data["path"]).unlink(missing_ok=True)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The file, when it is there."""
        return _there("file", _within(self._state, data["path"]))


def _there(kind: str, path: Path) -> list[str]:
    return [f"{kind} {path}"] if os.path.lexists(path) else []


def _within(state: Path, text: str) -> Path:
    """``text`` as a path strictly below ``state``, reached through no link. Raises LeaseError otherwise."""
    path, top = Path(text), state.resolve()  # the mount table knows resolved paths only
    if path.is_relative_to(state):
        path = top / path.relative_to(state)
    inside = ".." not in path.parts and path.is_relative_to(top) and path != top
    if not inside or path.parent.resolve() != path.parent:
        raise LeaseError(text, "not touched: it is not in the cluster's state folder", expected=f"a path below {state}")
    return path


def _unmount(target: str, flags: int = 0) -> bool:
    """Unmount the topmost mount at ``target``; False when it is busy. Gone already counts as unmounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(target), flags | _UMOUNT_NOFOLLOW) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.EINVAL, errno.ENOENT}:
        return True
    if number == errno.EBUSY:
        return False
    raise LeaseError(target, f"can't be unmounted ({os.strerror(number)})")
