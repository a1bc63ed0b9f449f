"""A machine's disk: a layer of its own (qcow2) over the image that all share."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from pytest_ai_how.errors import ProvisionError


def make_layer(node: str, base: Path, target: Path, gib: int) -> None:
    """Make an empty layer of ``gib`` GiB over ``base``; only what the machine writes takes room.

    Raises :class:`ProvisionError` when the image is larger than that.
    """
    size = virtual_size(node, base)
    if gib * 2**30 < size:
        raise ProvisionError(
            node,
            f"disk: {gib} GiB, but the image's file system has {size / 2**30:.1f} GiB",
            expected="a disk that holds the image",
            cure=f"set disk: {-(-size // 2**30)} or more",
        )
    _qemu_img(node, "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(target), f"{gib}G")


def virtual_size(node: str, disk: Path) -> int:
    """The size of a disk as a machine sees it, in bytes (``qemu-img info --output=json``, QEMU 7.2).

    ``{"virtual-size": 2147483648, "filename": "disk.qcow2", "format": "qcow2", "actual-size": 401408, …}``
    """
    told = json.loads(_qemu_img(node, "info", "--force-share", "--output=json", str(disk)))
    return int(told["virtual-size"])


def _qemu_img(node: str, *argv: str) -> str:
    done = subprocess.run(["qemu-img", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProvisionError(node, f"`qemu-img {' '.join(argv)}` exited with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
