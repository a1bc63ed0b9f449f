"""Turn a root directory into a SIF with the node image's own Apptainer: the machines run what their version made."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.bootstrap import disk_full
from pytest_ai_how.image.sandbox import Sandbox

LABEL = "org.ai-how.digest"
# Only the file system's own time is set: Python's compiled files are valid with the times of their sources only.
# $1 the node image's root (left as it is), $2 an empty folder, $3 the folder with root/, $4 the SIF's name in it,
# $5 seconds since 1970
_CONVERT = """\
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
mount -t proc proc "$2/proc"
mount --rbind /dev "$2/dev"
mount --bind /sys "$2/sys"
mount -t tmpfs tmpfs "$2/tmp"
mount -t tmpfs tmpfs "$2/root"
mount --bind "$3" "$2/mnt"
exec chroot "$2" env --unset=TMPDIR APPTAINER_TMPDIR=/mnt/work HOME=/root \\
    apptainer build --mksquashfs-args "-comp zstd -Xcompression-level 3 -mkfs-time $5" "/mnt/$4" /mnt/root
"""


def label(root: Path, labels: dict[str, str]) -> None:
    """Write the labels that ``apptainer inspect`` shows into the root of a container."""
    file = root / ".singularity.d/labels.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(labels, indent=1, sort_keys=True) + "\n")


def convert(node_root: Path, place: Path, name: str, epoch: int, sandbox: Sandbox) -> Path:
    """Make ``<name>.sif`` in ``place`` of its ``root`` directory. Raises ImageError with Apptainer's words."""
    mount, work = place / "mount", place / "work"
    mount.mkdir()
    work.mkdir()
    argv = ["sh", "-eu", "-c", _CONVERT, "convert", str(node_root), str(mount), str(place), f"{name}.sif", str(epoch)]
    try:
        sandbox.run(argv)
    except CommandError as error:
        if "No space left on device" in error.result.stdout:
            raise disk_full(name, place) from error
        last = " | ".join(error.result.stdout.splitlines()[-5:])
        raise ImageError(f"{name} image", f"apptainer could not make a SIF of it: {last}") from error
    return place / f"{name}.sif"
