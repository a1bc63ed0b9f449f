"""A SIF as Apptainer 1.4.5 makes it, of a few bytes."""

from __future__ import annotations

import struct
from pathlib import Path

# `xxd -p` of a real one's first 128 bytes, with room for two descriptors instead of 48 and little data.
HEADER = bytes.fromhex(
    "23212f7573722f62696e2f656e762072756e2d73696e67756c61726974790a00"  # #!/usr/bin/env run-singularity
    "5349465f4d4147494300"  # SIF_MAGIC
    "303100303200"  # version 01, architecture 02: amd64
    "e90a220013274caca695b4331f578dc2"  # UUID
    "a1ea096b00000000a1ea096b00000000"  # created and modified 2026-11-27T20:40:01Z
    "01000000000000000200000000000000"  # 1 of 2 descriptors is free
    "00100000000000009204000000000000"  # they are at 4096, 1170 bytes
    "92140000000000000900000000000000"  # the data is at 5266, 9 bytes
)
DESCRIPTOR = (
    bytes.fromhex(
        "06400000" + "01" + "01000000" + "010000f0" + "00000000"  # JSON.Generic, used, id, group, link
        "9214000000000000" + "0900000000000000" + "0900000000000000"  # offset, size, with padding
        "a1ea096b00000000a1ea096b00000000"  # created and modified
    ).ljust(73, b"\0")
    + b"inspect-metadata.json".ljust(512, b"\0")
)
MADE = 0x6B09EAA1


def write_sif(path: Path, data: bytes = b'{"a": 1}\n', made: int = MADE, number: int = 1) -> Path:
    """Such a file, with another content, time of making or UUID."""
    stamp = struct.pack("<q", MADE)
    header = HEADER.replace(HEADER[48:64], number.to_bytes(16, "big")) + bytes(4096 - len(HEADER))
    told = (header + DESCRIPTOR + bytes(585)).replace(stamp, struct.pack("<q", made))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(told + data)
    return path
