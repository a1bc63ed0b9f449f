"""Turn a root directory into a SIF with the node image's own Apptainer: the machines run what their version made.

One root gives one file, byte for byte. Apptainer takes the time from outside (SOURCE_DATE_EPOCH) from 1.5 on. For 1.4,
which asks the clock, the definition's labels say it (``--force`` lets them win); UUID and times of the file itself are
set afterwards.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.bootstrap import disk_full
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.sif_file import settle

LABEL = "org.ai-how.digest"
# {date} as Apptainer writes it
_DEFINITION = """\
bootstrap: localimage
from: /mnt/root

%labels
    org.label-schema.build-date {date}
"""
# mksquashfs sets times later than SOURCE_DATE_EPOCH to that. It must be no others than those of what Apptainer writes:
# Python's compiled files are valid with the times of their sources only.
# $1 the node image's root (left as it is), $2 an empty folder, $3 the folder with root/, $4 the SIF's name in it,
# $5 the definition's, $6 seconds since 1970
_CONVERT = """\
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
mount -t proc proc "$2/proc"
mount --rbind /dev "$2/dev"
mount --bind /sys "$2/sys"
mount -t tmpfs tmpfs "$2/tmp"
mount -t tmpfs tmpfs "$2/root"
mount --bind "$3" "$2/mnt"
exec chroot "$2" env --unset=TMPDIR APPTAINER_TMPDIR=/mnt/work HOME=/root TZ=UTC SOURCE_DATE_EPOCH="$6" \\
    apptainer build --force --mksquashfs-args "-comp zstd -Xcompression-level 3" "/mnt/$4" "/mnt/$5"
"""


def label(root: Path, labels: dict[str, str]) -> None:
    """Write the labels that ``apptainer inspect`` shows into the root of a container."""
    file = root / ".singularity.d/labels.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(labels, indent=1, sort_keys=True) + "\n")
    for path, mode in ((file.parent, 0o755), (file, 0o644)):
        path.chmod(mode)  # whatever the umask


def convert(node_root: Path, place: Path, name: str, epoch: int, sandbox: Sandbox) -> Path:
    """Make ``<name>.sif`` in ``place`` of its ``root`` directory, dated ``epoch``, than which nothing in it is newer.

    Raises ImageError with Apptainer's words.
    """
    mount, work, sif = place / "mount", place / "work", place / f"{name}.sif"
    mount.mkdir()
    work.mkdir()
    definition = work / f"{name}.def"
    definition.write_text(_DEFINITION.format(date=build_date(epoch)))
    told = (sif.name, f"work/{definition.name}", str(epoch))
    try:
        sandbox.run(["sh", "-eu", "-c", _CONVERT, "convert", str(node_root), str(mount), str(place), *told])
    except CommandError as error:
        if "No space left on device" in error.result.stdout:
            raise disk_full(name, place) from error
        last = " | ".join(error.result.stdout.splitlines()[-5:])
        raise ImageError(f"{name} image", f"apptainer could not make a SIF of it: {last}") from error
    settle(sif, epoch)
    return sif


def build_date(epoch: int) -> str:
    """``epoch`` as Apptainer's label tells when an image was built: ``Thursday_1_January_2026_0:0:0_UTC``."""
    at = datetime.fromtimestamp(epoch, UTC)
    return f"{at:%A}_{at.day}_{at:%B_%Y}_{at.hour}:{at.minute}:{at.second}_UTC"
