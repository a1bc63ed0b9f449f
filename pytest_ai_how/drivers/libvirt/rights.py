"""Why a daemon that runs lets this account not in, and what would change that."""

from __future__ import annotations

import grp
import os
import re
import socket
import stat
from pathlib import Path
from urllib.parse import unquote

from pytest_ai_how.drivers.machines.accounts import name_of
from pytest_ai_how.errors import HostError

# Where libvirt's own client looks when no socket is named: a daemon for QEMU alone, then the one for all.
_SOCKETS = (Path("/run/libvirt/virtqemud-sock"), Path("/run/libvirt/libvirt-sock"))
_NAMED = re.compile(r"[?&]socket=([^&]+)")


def refusal(uri: str, known: tuple[Path, ...] = _SOCKETS) -> HostError | None:
    """The error for an account whose rights do not reach to the socket of ``uri``.

    None where they do, or where nobody listens. That a group has a member does not help a session which is older.
    """
    named = _NAMED.search(uri)
    for place in (Path(unquote(named[1])),) if named else known:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(place))
        except PermissionError:
            return _refused(place)
        except OSError:
            continue
        return None
    return None


def _refused(place: Path) -> HostError:
    user = _user()
    expected = "a libvirt daemon that this user may use"
    try:
        seen = place.stat()
    except PermissionError as error:
        what = f"user {user} may not look into {place.parent}, where libvirt's socket {place.name} is"
        return HostError("localhost", f"{what} ({error.strerror})", expected=expected, cure=_open(place))
    (group, members), mode = _group(seen.st_gid), stat.S_IMODE(seen.st_mode)
    what = f"user {user} may not use libvirt's socket {place}: it is of {name_of(seen.st_uid)}:{group}, mode 0{mode:o}"
    if seen.st_gid == 0 or not mode & stat.S_IWGRP:
        cure = _open(place)
    elif user in members:
        cure = f"log in anew, since this session is older than {user}'s place in the group {group}; or: newgrp {group}"
    else:
        cure = f"sudo adduser {user} {group}, then log in anew; or run the same command as root"
    return HostError("localhost", what, expected=expected, cure=cure)


def _open(place: Path) -> str:
    return (
        f"let a group of this user's have {place}: unix_sock_group and unix_sock_rw_perms in "
        "/etc/libvirt/libvirtd.conf, then systemctl restart libvirtd; or run the same command as root"
    )


def _user() -> str:
    return name_of(os.geteuid())


def _group(number: int) -> tuple[str, list[str]]:
    """Its name, or its number where it has none, and its members."""
    try:
        found = grp.getgrgid(number)
    except KeyError:
        return str(number), []
    return found.gr_name, found.gr_mem
