"""The accounts of an image, the one that a cluster adds, and the names of this host's."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Debian's range for ordinary users (Debian policy 9.2.2).
_FIRST_USER, _LAST_USER = 1000, 60000


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of an image's root tree, by name: uid and gid (passwd(5))."""

    ids: Mapping[str, tuple[int, int]]

    def owner(self, name: str) -> tuple[int, int]:
        """The uid and gid of ``name``; KeyError when the image lacks the account."""
        return self.ids[name]


def read_accounts(root: Path, job_user: str) -> Accounts:
    """Read the accounts of an image's root tree, with the job user that :func:`add_user` will make if it lacks one."""
    ids = {}
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        ids[name] = (int(uid), int(gid))
    taken = {number for pair in ids.values() for number in pair}
    free = next(number for number in range(_FIRST_USER, _LAST_USER) if number not in taken)
    return Accounts({job_user: (free, free)} | ids)


def name_of(uid: int) -> str:
    """The name of an account of this host, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_id(root: Path, name: str) -> int:
    """The gid of an image's group (group(5)); 0 when it has none of that name."""
    rows = (line.split(":") for line in (root / "etc/group").read_text().splitlines())
    return next((int(row[2]) for row in rows if row[0] == name), 0)


def account_files(root: Path, name: str, owner: tuple[int, int]) -> dict[str, str]:
    """The files of ``/etc`` that give an image the unprivileged account that jobs run as: no password.

    Empty when the image's root tree has the account.
    """
    uid, gid = owner
    if any(line.startswith(f"{name}:") for line in (root / "etc/passwd").read_text().splitlines()):
        return {}
    lines = {
        "passwd": f"{name}:x:{uid}:{gid}:Slurm jobs:/home/{name}:/bin/bash",
        "group": f"{name}:x:{gid}:",
        # '*' is no password and not locked: sshd refuses locked accounts when PAM is off (shadow(5), sshd(8)).
        "shadow": f"{name}:*:20000:0:99999:7:::",
    }
    return {file: (root / "etc" / file).read_text().rstrip("\n") + f"\n{line}\n" for file, line in lines.items()}


def add_user(root: Path, name: str, owner: tuple[int, int]) -> None:
    """Give a node's root the account of :func:`account_files`, with its home."""
    for file, content in account_files(root, name, owner).items():
        (root / "etc" / file).write_text(content)
    home = root / "home" / name
    home.mkdir(mode=0o700, exist_ok=True)
    os.chown(home, *owner)
