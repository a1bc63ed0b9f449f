"""Write cpio archives in the form that the kernel unpacks as an initramfs (newc: cpio(5), driver-api/early-userspace).

The kernel reads several archives one after the other, so a machine's own files can be appended to an image's.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_MAGIC = b"070701"
_END = "TRAILER!!!"
# Any multiple of four will do; this is what cpio(1) pads to.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder, link or device; ``mode`` with its type (:mod:`stat`), ``content`` of a link is its target.

    ``device`` holds major and minor number of a character device.
    """

    mode: int
    content: bytes = b""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def folder(mode: int = 0o755) -> Entry:
    """A folder of root's."""
    return Entry(stat.S_IFDIR | mode)


def file(content: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
    """A file."""
    return Entry(stat.S_IFREG | mode, content, uid, gid)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """The archive of ``entries`` by path (``/seed/etc/hosts``), padded so that another may follow.

    Folders that are not among the entries are made, for root and with mode 0755. Equal entries give equal bytes.
    """
    whole = {
        **{path: folder() for path in _parents(entries)},
        **{path.strip("/"): one for path, one in entries.items()},
    }
    packed = b"".join(_pack(number, path, whole[path]) for number, path in enumerate(sorted(whole), 1))
    packed += _pack(0, _END, Entry(0))
    return packed + bytes(-len(packed) % _BLOCK)


def _parents(paths: Iterable[str]) -> set[str]:
    return {str(parent) for path in paths for parent in PurePosixPath(path.strip("/")).parents} - {"."}


def _pack(number: int, path: str, entry: Entry) -> bytes:
    name = path.encode("utf-8", "surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device of the file system, device, length of the name, check sum
    numbers = (
        number,
        entry.mode,
        entry.uid,
        entry.gid,
        links,
        0,
        len(entry.content),
        0,
        0,
        *entry.device,
        len(name),
        0,
    )
    head = _MAGIC + b"".join(b"%08X" % value for value in numbers) + name
    return head + bytes(-len(head) % 4) + entry.content + bytes(-len(entry.content) % 4)
