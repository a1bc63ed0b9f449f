"""What qemu-img and mke2fs say is understood (samples: QEMU 7.2.22, e2fsprogs 1.47.0)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.disk import ACCOUNTS, DiskFacts, disk_facts, for_all, keep_accounts, kernels_inside, make_disk
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.shell import Result

INFO = {
    "virtual-size": 4294967296,
    "filename": "disk.qcow2",
    "cluster-size": 65536,
    "format": "qcow2",
    "actual-size": 563417088,
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "refcount-bits": 16, "corrupt": False}},
    "dirty-flag": False,
}
CLEAN = {
    "image-end-offset": 563412992,
    "total-clusters": 65536,
    "check-errors": 0,
    "allocated-clusters": 8591,
    "filename": "disk.qcow2",
    "format": "qcow2",
}
# after clusters were freed and overwritten by hand; the exit status is 2
DAMAGED = {**CLEAN, "corruptions": 3, "leaks": 7}


class Said(Sandbox):
    """A sandbox in which each program says what the test wants."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        super().__init__()
        self.answers, self.ran = answers, list[tuple[str, ...]]()

    def run(self, argv: Any, **_: Any) -> Result:
        self.ran.append(tuple(argv))
        program = {"qemu-img": argv[1], "sh": argv[3]}.get(argv[0], argv[0]) if len(argv) > 1 else argv[0]
        status, said = self.answers.get(program, (0, ""))
        result = Result(tuple(argv), status, said)
        if status:
            raise CommandError(result)
        return result


def answers(check: dict[str, Any], status: int = 0) -> dict[str, tuple[int, str]]:
    return {"info": (0, json.dumps(INFO)), "check": (status, json.dumps(check))}


def test_a_sound_image_is_clean() -> None:
    facts = disk_facts(Path("disk.qcow2"), Said(**answers(CLEAN)))
    assert facts == DiskFacts("qcow2", 2**32, 563417088, 0, 0, 0)
    assert facts.clean


def test_damage_is_told_and_not_clean() -> None:
    """Each damage has a line on standard error, before the rest."""
    said = answers(DAMAGED, status=2)
    said["check"] = (2, f"ERROR cluster 3 refcount=0 reference=1\n{said['check'][1]}")
    facts = disk_facts(Path("disk.qcow2"), Said(**said))
    assert (facts.corruptions, facts.leaks, facts.clean) == (3, 7, False)


@pytest.mark.parametrize(
    "said",
    [
        (1, "qemu-img: Could not open 'disk.qcow2': Image is not in qcow2 format"),
        (0, "not json"),
        (63, json.dumps(CLEAN)),
    ],
)
def test_what_cannot_be_read_is_no_image(said: tuple[int, str]) -> None:
    with pytest.raises(ImageError, match=r"disk\.qcow2: `qemu-img check .* exited with"):
        disk_facts(Path("disk.qcow2"), Said(info=(0, json.dumps(INFO)), check=said))


def test_an_image_that_does_not_check_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").touch()
    with pytest.raises(ImageError, match=r"qemu-img finds .*corruptions=3(.|\n)*expected: a qcow2 image of 4 GiB"):
        make_disk("vm", tmp_path / "root", tmp_path / "disk.qcow2", 4, 0, Said(**answers(DAMAGED, status=2)))


def test_a_disk_is_made_by_the_trees_own_program_with_nothing_of_the_moment(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").touch()
    (tmp_path / "disk.qcow2").touch()
    sandbox = Said(**answers(CLEAN))
    make_disk("vm", tmp_path / "root", tmp_path / "disk.qcow2", 4, 1700000000, sandbox)
    argv = sandbox.ran[0]
    assert argv[4:8] == (str(tmp_path / "root"), str(tmp_path), "1700000000", "mke2fs")
    assert 'chroot "$tree" env SOURCE_DATE_EPOCH="$epoch"' in argv[2]
    number = argv[argv.index("-U") + 1]
    assert f",hash_seed={number}" in argv[argv.index("-E") + 1]
    assert argv[-2:] == ("/mnt/place/disk.raw", "4G")


def test_a_full_host_is_told_apart_from_a_disk_that_is_too_small(tmp_path: Path) -> None:
    # the same words for both
    full = (1, "mke2fs: Could not allocate block in ext2 filesystem while populating file system")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ImageError, match="the disk filled up during the build of the vm image"):
        make_disk("vm", root, tmp_path / "disk.qcow2", 1, 0, Said(mke2fs=full))
    (root / "large").write_bytes(b"x" * 2**20)
    with pytest.raises(ImageError, match=r"vm image: 1 MiB do not fit into a disk of 0 GiB\n  do: raise 'size'"):
        make_disk("vm", root, tmp_path / "disk.qcow2", 0, 0, Said(mke2fs=full))


def test_other_words_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="vm image: mke2fs exited with 1: mke2fs: something new"):
        make_disk("vm", tmp_path, tmp_path / "disk.qcow2", 1, 0, Said(mke2fs=(1, "mke2fs: something new")))
    lacks = (127, "env: 'mke2fs': No such file or directory")
    with pytest.raises(ImageError) as caught:
        make_disk("vm", tmp_path, tmp_path / "disk.qcow2", 1, 0, Said(mke2fs=lacks))
    assert str(caught.value) == (
        "vm image: mke2fs exited with 127: env: 'mke2fs': No such file or directory\n"
        "  do: add e2fsprogs to the packages of one of its roles"
    )


def test_the_kernels_inside_are_read_from_the_file_system(tmp_path: Path) -> None:
    said = (
        "debugfs 1.47.0 (5-Feb-2023)\n/262145/040755/0/0/.//\n/131075/040755/0/0/..//\n"
        "/262146/040755/0/0/6.12.117+deb13-cloud-amd64//\n"
    )
    assert kernels_inside(Path("d"), tmp_path, Said(debugfs=(0, said))) == ("6.12.117+deb13-cloud-amd64",)
    none = "debugfs 1.47.0 (5-Feb-2023)\n/usr/lib/modules: File not found by ext2_lookup\n"
    with pytest.raises(ImageError, match=r"d: holds no kernel's modules: (.|\n)*File not found"):
        kernels_inside(Path("d"), tmp_path, Said(debugfs=(0, none)))
    with pytest.raises(ImageError, match="d: `debugfs .*` exited with 1"):
        kernels_inside(Path("d"), tmp_path, Said(debugfs=(1, "Bad magic number")))


@pytest.mark.skipif(shutil.which("mke2fs") is None, reason="makes a file system with mke2fs")
def test_a_real_file_system_is_read_without_mounting_it(tmp_path: Path) -> None:
    (tmp_path / "tree/usr/lib/modules/6.12-a").mkdir(parents=True)
    raw = tmp_path / "raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "tree", raw, "8M"], check=True)

    class Plain(Said):
        """Runs debugfs on what is there."""

        def run(self, argv: Any, **_: Any) -> Result:
            done = subprocess.run(argv, check=True, capture_output=True, text=True) if argv[0] == "debugfs" else None
            return Result(tuple(argv), 0, done.stdout + done.stderr if done else "")

    assert kernels_inside(Path("d"), tmp_path, Plain()) == ("6.12-a",)
    assert not raw.exists()


def test_accounts_lie_beside_the_disk_for_everybody_to_read(tmp_path: Path) -> None:
    root, machine = tmp_path / "root", tmp_path / "machine"
    (root / "etc").mkdir(parents=True)
    for name in ACCOUNTS:
        (root / name).write_text(f"{name}\n")
        (root / name).chmod(0o640)
    former = os.umask(0o077)
    try:
        machine.mkdir()
        (machine / "vmlinuz").write_bytes(b"kernel")
        keep_accounts(root, machine)
        for_all(machine)
    finally:
        os.umask(former)
    assert {str(path.relative_to(machine)): path.stat().st_mode & 0o777 for path in machine.rglob("*")} == {
        "vmlinuz": 0o444,
        "etc": 0o755,
        **dict.fromkeys(ACCOUNTS, 0o444),
    }
    assert machine.stat().st_mode & 0o777 == 0o755
    assert (machine / "etc/shadow").read_text() == "etc/shadow\n"
