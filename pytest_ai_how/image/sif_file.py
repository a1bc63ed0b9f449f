"""The file that a SIF is: what of it names the moment and the chance of its making, and how that is replaced.

The format, little-endian and packed, is that of Apptainer's own library (github.com/apptainer/sif, ``pkg/sif``:
``sif.go`` has the header, ``descriptor.go`` the descriptors, ``create.go`` writes them), version ``01``::

    0            the header: launch script, magic, version, architecture, UUID, times, where the rest is
    4096         48 descriptors of objects, of which some are used
    data_offset  the objects, in this order: the definition, what ``apptainer inspect`` shows, the squashfs

Times are seconds since 1970. Signatures cover the UUID, so that this is for files that nobody has signed yet.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

from pytest_ai_how.errors import ImageError

_MAGIC, _VERSION = b"SIF_MAGIC\0", b"01\0"
_HEADER = Struct("<32s10s3s3s16s8q")
_DESCRIPTOR = Struct("<i?3I7q128s384s")
_BLOCK = 2**20


class _Header(NamedTuple):
    launch: bytes
    magic: bytes
    version: bytes
    arch: bytes
    number: bytes
    created: int
    modified: int
    free: int
    total: int
    offset: int
    size: int
    data_offset: int
    data_size: int


class _Descriptor(NamedTuple):
    kind: int
    used: bool
    id: int
    group: int
    link: int
    offset: int
    size: int
    padded: int
    created: int
    modified: int
    uid: int
    gid: int
    name: bytes
    extra: bytes


def settle(sif: Path, epoch: int) -> None:
    """Date ``sif`` and its objects ``epoch``, and give it the UUID that follows from what it holds.

    Files that hold something else keep UUIDs of their own. Raises ImageError when it is no SIF of this version.
    """
    with sif.open("r+b") as stream:
        header, descriptors = _read(stream, sif)
        stream.seek(header.data_offset)
        content = hashlib.file_digest(stream, "sha256").hexdigest()
        number = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{content}").bytes
        stream.seek(0)
        stream.write(_HEADER.pack(*header._replace(number=number, created=epoch, modified=epoch)))
        stream.seek(header.offset)
        for one in descriptors:
            dated = one._replace(created=epoch, modified=epoch) if one.used else one
            stream.write(_DESCRIPTOR.pack(*dated))


def parts(sif: Path) -> dict[str, str]:
    """What ``sif`` consists of, in words, and what tells each part: two that are the same have the same.

    Raises ImageError when it is no SIF of this version.
    """
    with sif.open("rb") as stream:
        header, descriptors = _read(stream, sif)
        found = {
            "UUID": str(uuid.UUID(bytes=header.number)),
            "times": f"{header.created} {header.modified}",
            "header": str(header._replace(number=b"", created=0, modified=0)),
        }
        for one in (one for one in descriptors if one.used):
            what = one.name.rstrip(b"\0").decode("utf-8", "replace") or f"{one.kind:#x}"
            found[f"times of object {one.id}"] = f"{one.created} {one.modified}"
            found[f"descriptor of object {one.id}"] = str(one._replace(created=0, modified=0))
            found[f"object {one.id} ({what})"] = _digest(stream, one.offset, one.size)
    return found


def _read(stream: BinaryIO, sif: Path) -> tuple[_Header, tuple[_Descriptor, ...]]:
    told = stream.read(_HEADER.size)
    header = _Header(*_HEADER.unpack(told)) if len(told) == _HEADER.size else None
    if header is None or (header.magic, header.version) != (_MAGIC, _VERSION):
        raise ImageError(str(sif), f"begins with {told[32:45]!r}", expected="a SIF of version 01, as Apptainer 1 makes")
    stream.seek(header.offset)
    table = stream.read(header.size)
    if len(table) != header.total * _DESCRIPTOR.size:
        what = f"its {header.total} descriptors have {len(table)} bytes"
        raise ImageError(str(sif), what, expected=f"{_DESCRIPTOR.size} bytes each, as in a SIF of version 01")
    return header, tuple(_Descriptor(*row) for row in _DESCRIPTOR.iter_unpack(table))


def _digest(stream: BinaryIO, offset: int, size: int) -> str:
    whole = hashlib.sha256()
    stream.seek(offset)
    while size > 0 and (block := stream.read(min(size, _BLOCK))):
        whole.update(block)
        size -= len(block)
    return whole.hexdigest()
