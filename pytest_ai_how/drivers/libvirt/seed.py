"""What one machine holds beyond its image, as an archive behind the initramfs: its ``/init`` lays it over the root."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pytest_ai_how.config.models import VirtiofsMount
from pytest_ai_how.drivers.machines.accounts import Accounts, account_files, group_id
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.image.cpio import Entry, archive, file, folder

_TOP = "/seed"
# Mode and group of what Debian's base-passwd and passwd make; all of them are root's.
_ACCOUNT_FILES = {"passwd": (0o644, "root"), "group": (0o644, "root"), "shadow": (0o640, "shadow")}


def write_initrd(target: Path, initrd: Path, entries: dict[str, Entry]) -> None:
    """Write the image's initramfs with a machine's seed behind it; nobody else may read the file."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    target.write_bytes(initrd.read_bytes() + archive(entries))


def seed(root: Path, user: str, accounts: Accounts, files: Iterable[File]) -> dict[str, Entry]:
    """The entries for one machine: accounts, homes and ``files``; ``root`` has the ``etc`` of its image's accounts.

    A folder that the image has keeps its own owner and mode.
    """
    entries = {}
    for name, content in account_files(root, user, accounts.owner(user)).items():
        mode, group = _ACCOUNT_FILES[name]
        entries[f"{_TOP}/etc/{name}"] = file(content.encode(), mode, 0, group_id(root, group))
    for home, owner in (("/root", "root"), (f"/home/{user}", user)):
        for path in (home, f"{home}/.ssh"):
            entries[_TOP + path] = _folder(0o700, accounts.owner(owner))
    for one in files:
        entries[_TOP + one.path] = file(one.content, one.mode, *accounts.owner(one.owner))
    return entries


def mount_points(mounts: Iterable[VirtiofsMount], accounts: Accounts) -> dict[str, Entry]:
    """The folders that a machine mounts directories of this host on."""
    return {
        _TOP + each.mount: _folder(int(each.mode, 8), (accounts.owner(each.owner)[0], accounts.owner(each.group)[1]))
        for each in mounts
    }


def _folder(mode: int, owner: tuple[int, int]) -> Entry:
    return replace(folder(mode), uid=owner[0], gid=owner[1])
