"""What checks of several phases read of a machine itself: its units, files and accounts."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_ai_how.facts import Fact


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of systemd: ``active`` and ``enabled`` in systemd's words, '' where there is no such unit."""

    active: str
    enabled: str

    def __str__(self) -> str:
        return f"{self.active or 'unknown'} and {self.enabled or 'not installed'}"


def units(*names: str) -> Fact[dict[str, Unit]]:
    """The state of services, by name without ``.service``."""
    properties = "--property=Id,ActiveState,UnitFileState"
    return Fact(f"units {', '.join(names)}", ("systemctl", "show", properties, *names), parse_units)


def parse_units(text: str) -> dict[str, Unit]:
    r"""Read ``systemctl show`` of several units (systemd 257): properties a line, an empty line between units.

    >>> parse_units("Id=munge.service\nActiveState=active\nUnitFileState=enabled\n\nId=x.service\nActiveState=inactive")
    {'munge': Unit(active='active', enabled='enabled'), 'x': Unit(active='inactive', enabled='')}
    """
    found = {}
    for block in text.split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[properties["Id"].removesuffix(".service")] = Unit(
            properties["ActiveState"], properties.get("UnitFileState", "")
        )
    return found


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder: ``mode`` in four octal digits, the names of its owner and group."""

    mode: str
    owner: str
    group: str

    def __str__(self) -> str:
        return f"{self.mode} {self.owner}:{self.group}"


def files(*paths: str) -> Fact[dict[str, File]]:
    """Owners and modes of files, by path; those that are not there are left out."""
    argv = ("stat", "--format=%04a %U %G %n", "--", *paths)
    return Fact(f"owners and modes of {', '.join(paths)}", argv, parse_files, frozenset({0, 1}))


def parse_files(text: str) -> dict[str, File]:
    r"""Read ``stat --format='%04a %U %G %n'`` (coreutils 9.7).

    >>> parse_files("0400 munge munge /etc/munge/munge.key")
    {'/etc/munge/munge.key': File(mode='0400', owner='munge', group='munge')}
    """
    rows = (line.split(" ", 3) for line in text.splitlines())
    return {path: File(mode, owner, group) for mode, owner, group, path in rows}


def digest(path: str) -> Fact[str]:
    """The sha256 of a file, in hex, computed on the machine."""
    return Fact(f"the digest of {path}", ("sha256sum", "--", path), parse_digest)


def parse_digest(text: str) -> str:
    r"""Read ``sha256sum`` (coreutils 9.7).

    >>> parse_digest(f"{'0a' * 32}  /etc/slurm/slurm.conf")[:8]
    '0a0a0a0a'
    """
    found = text.split(maxsplit=1)[0].lstrip("\\")
    if len(found) != 64:
        raise ValueError("expected 64 hex digits")
    return found


def accounts(*users: str) -> Fact[dict[str, tuple[int, int]]]:
    """The numbers of users and of their groups, by name; those that are not known are left out."""
    argv = ("getent", "passwd", "--", *users)
    return Fact(f"accounts {', '.join(users)}", argv, parse_accounts, frozenset({0, 2}))


def parse_accounts(text: str) -> dict[str, tuple[int, int]]:
    r"""Read ``getent passwd`` (passwd(5)).

    >>> parse_accounts("slurm:x:64030:64030::/nonexistent:/usr/sbin/nologin")
    {'slurm': (64030, 64030)}
    """
    rows = (line.split(":") for line in text.splitlines())
    return {row[0]: (int(row[2]), int(row[3])) for row in rows}


#: What kind of container a machine is, by systemd: ``systemd-nspawn``; ``none`` for one with a kernel of its own.
CONTAINER: Fact[str] = Fact("kind of container", ("systemd-detect-virt", "--container"), str, frozenset({0, 1}))
