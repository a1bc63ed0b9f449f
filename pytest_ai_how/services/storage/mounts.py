"""What is mounted where, as findmnt(8) tells it from the kernel's table: the file system itself is not touched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_ai_how.shell import Result

#: findmnt's words; the mount point follows.
FINDMNT = ("findmnt", "--json", "--output", "TARGET,SOURCE,FSTYPE,OPTIONS", "--mountpoint")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: its source, its type, and its options (``rw``, ``relatime`` …)."""

    source: str
    type: str
    options: tuple[str, ...] = ()


def parse_mount(result: Result) -> Mount | None:
    """Read ``findmnt --json`` (util-linux 2.41); None when nothing is mounted there. The last mount hides the others.

    >>> text = '{"filesystems": [{"source": "/dev/a", "fstype": "ext4", "options": "rw"}]}'
    >>> parse_mount(Result(("findmnt",), 0, text))
    Mount(source='/dev/a', type='ext4', options=('rw',))
    """
    if not result.ok or not result.stdout.strip():
        return None
    found: list[Mapping[str, str | None]] = json.loads(result.stdout)["filesystems"]
    last = found[-1]
    return Mount(last.get("source") or "", last.get("fstype") or "", tuple((last.get("options") or "").split(",")))
