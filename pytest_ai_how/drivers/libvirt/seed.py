"""What one machine holds beyond its image, as an archive behind the initramfs: its ``/init`` lays it over the root."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pytest_ai_how.config.models import VirtiofsMount
from pytest_ai_how.drivers.machines.accounts import Accounts, account_files
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.image.cpio import Entry, archive, file, folder

_TOP = "/seed"


def write_initrd(target: Path, initrd: Path, entries: dict[str, Entry]) -> None:
    """Write the image's initramfs with a machine's seed behind it; nobody else may read the file."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    target.write_bytes(initrd.read_bytes() + archive(entries))


def seed(root: Path, user: str, accounts: Accounts, files: Iterable[File]) -> dict[str, Entry]:
    """The entries for one machine: accounts, homes and ``files``; ``root`` is the tree that its image was made of.

    A folder that the image has keeps its own owner and mode.
    """
    entries = {}
    for name, content in account_files(root, user, accounts.owner(user)).items():
        seen = (root / "etc" / name).stat()
        entries[f"{_TOP}/etc/{name}"] = file(content.encode(), stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid)
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
