"""Make a disk of a root directory, with no mount of it and no loop device, and look at one that was made."""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.bootstrap import disk_full
from pytest_ai_how.image.sandbox import Sandbox

# The files of an image of kind disk.
DISK, KERNEL, INITRD = "disk.qcow2", "vmlinuz", "initrd.cpio"
# What tells its accounts, below the same path in that folder as in the tree.
ACCOUNTS = ("etc/passwd", "etc/group", "etc/shadow")
# What a virtual machine's short life writes fits many times; each MiB more is written again for every image.
_JOURNAL_MIB = 32
# $1 the tree, which is left as it is; $2 the folder for the disk; $3 seconds since 1970; then mke2fs's own words.
# From 1.47.1 on it takes the time from outside (SOURCE_DATE_EPOCH) and lets no time of this host's in.
_POPULATE = """\
tree=$1 place=$2 epoch=$3
shift 3
mount --bind "$tree" "$tree"
mount -o remount,bind,ro "$tree"
mount -t proc proc "$tree/proc"
mount -t tmpfs tmpfs "$tree/mnt"
mkdir "$tree/mnt/tree" "$tree/mnt/place"
mount --bind "$tree" "$tree/mnt/tree"
mount --bind "$place" "$tree/mnt/place"
exec chroot "$tree" env SOURCE_DATE_EPOCH="$epoch" "$@"
"""
_FULL = ("No space left on device", "Disk quota exceeded", "Could not allocate block")


@dataclass(frozen=True)
class DiskFacts:
    """What ``qemu-img info`` and ``qemu-img check`` say of an image: sizes in bytes, damage as counts."""

    format: str
    virtual_size: int
    actual_size: int
    check_errors: int
    corruptions: int
    leaks: int

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.check_errors or self.corruptions or self.leaks)


def make_disk(name: str, root: Path, disk: Path, size: int, epoch: int, sandbox: Sandbox) -> DiskFacts:
    """Write the tree ``root`` into a qcow2 image with one ext4 file system of ``size`` GiB, and check it.

    The tree's own mke2fs makes it, so that one tree gives one disk wherever it is made: earlier ones, such as Debian
    12's, write times and a number of the moment. Raises ImageError when the tree does not fit, this machine's disk is
    full or the image does not check.
    """
    raw, number = disk.with_suffix(".raw"), str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    extended = f"root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,hash_seed={number}"
    ext4 = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "ai-how-root", "-U", number]
    fill = ["-J", f"size={_JOURNAL_MIB}", "-E", extended, "-d", "/mnt/tree", f"/mnt/place/{raw.name}", f"{size}G"]
    try:
        sandbox.run(["sh", "-euc", _POPULATE, "mke2fs", str(root), str(disk.parent), str(epoch), *ext4, *fill])
        sandbox.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
    except CommandError as error:
        raise _explained(error, name, root, size) from error
    raw.unlink()
    facts = disk_facts(disk, sandbox)
    if not facts.clean or facts.virtual_size != size * 2**30:
        raise ImageError(str(disk), f"qemu-img finds {facts}", expected=f"a qcow2 image of {size} GiB without damage")
    disk.chmod(0o444)
    return facts


def keep_accounts(root: Path, machine: Path) -> None:
    """Put the accounts of ``root`` beside its disk: whoever makes machines adds one, and need not be root.

    Accounts of images have no passwords, and the disk has the same files.
    """
    for name in ACCOUNTS:
        (machine / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(root / name, machine / name)


def for_all(machine: Path) -> None:
    """Let every account read what machines start from, whatever the umask of who built it; nobody changes it."""
    for path in (machine, *machine.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o444)


def disk_facts(disk: Path, sandbox: Sandbox) -> DiskFacts:
    """What ``disk`` is and whether it is sound, read from it now. Raises ImageError when it is no image.

    ``qemu-img check --output=json`` (7.2 to 10.0; what is not there is 0)::

        {"image-end-offset": 7995392, "total-clusters": 64, "check-errors": 0, "allocated-clusters": 1,
         "filename": "disk.qcow2", "format": "qcow2"}

    It exits with 2 for damage and 3 for leaks, and says them all the same.
    """
    info, check = _asked("info", disk, (0,), sandbox), _asked("check", disk, (0, 2, 3), sandbox)
    return DiskFacts(
        format=info["format"],
        virtual_size=info["virtual-size"],
        actual_size=info["actual-size"],
        check_errors=check["check-errors"],
        corruptions=check.get("corruptions", 0),
        leaks=check.get("leaks", 0),
    )


def kernels_inside(disk: Path, scratch: Path, sandbox: Sandbox) -> tuple[str, ...]:
    """The releases of the kernels whose modules are in ``disk``'s file system, read from it now; nothing is mounted.

    ``scratch`` is an empty folder with room for the disk's content. Raises ImageError when there are none, or when it
    cannot be read. ``debugfs -R 'ls -p DIR'`` (1.47) tells inode, mode, owner, group, name and size of each entry, and
    of what is not there only on standard error::

        /262146/040755/0/0/6.12.117+deb13-cloud-amd64//
    """
    raw = scratch / "raw"
    try:
        sandbox.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(disk), str(raw)])
        said = sandbox.run(["debugfs", "-R", "ls -p /usr/lib/modules", str(raw)], keep=None).stdout
    except CommandError as error:
        raise ImageError(str(disk), error.seen) from error
    finally:
        raw.unlink(missing_ok=True)
    rows = (line.split("/") for line in said.splitlines() if line.startswith("/"))
    found = sorted(row[5] for row in rows if len(row) > 5 and row[5] not in (".", ".."))
    if not found:
        raise ImageError(
            str(disk), f"holds no kernel's modules: {said.strip()}", expected="those of the kernel that it boots"
        )
    return tuple(found)


def _asked(verb: str, disk: Path, statuses: tuple[int, ...], sandbox: Sandbox) -> dict[str, Any]:
    try:
        result = sandbox.run(["qemu-img", verb, "-f", "qcow2", "--output=json", str(disk)], keep=None)
    except CommandError as error:
        result = error.result
    if result.returncode in statuses:
        # What it says of each damage comes before, on standard error: ERROR cluster 3 refcount=0 reference=1
        with suppress(ValueError):
            return dict(json.loads(result.stdout[result.stdout.index("{") :]))
    last = " | ".join(result.stdout.splitlines()[-3:])
    raise ImageError(str(disk), f"`{result.command}` exited with {result.returncode}: {last}")


def _explained(error: CommandError, name: str, root: Path, size: int) -> ImageError:
    said = error.result.stdout
    # mke2fs says the same of its own file system and of this machine's.
    if any(text in said for text in _FULL):
        tree = sum(path.lstat().st_blocks for path in root.rglob("*")) * 512
        if tree > size * 2**30 * 0.9:
            what = f"{tree // 2**20} MiB do not fit into a disk of {size} GiB"
            return ImageError(f"{name} image", what, cure=f"raise 'size' in the image's {name}.yaml")
        return disk_full(name, root.parent)
    last = " | ".join(said.splitlines()[-5:])
    program = "mke2fs" if error.result.argv[0] == "sh" else error.result.argv[0]
    # What env(1) exits with when the tree has no such program.
    cure = "add e2fsprogs to the packages of one of its roles" if error.result.returncode == 127 else ""
    return ImageError(f"{name} image", f"{program} exited with {error.result.returncode}: {last}", cure=cure)
