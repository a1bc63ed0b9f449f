"""What a machine is given before it boots, as cpio(1) reads it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ai_how.config.models import VirtiofsMount
from pytest_ai_how.drivers.libvirt.build import accounts_of, renderer
from pytest_ai_how.drivers.libvirt.seed import mount_points, seed, write_initrd
from pytest_ai_how.drivers.machines.accounts import read_accounts
from pytest_ai_how.drivers.machines.identity import make_identity
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image import cpio

from .test_xml import config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image's root tree with the accounts of Debian's packages."""
    found = tmp_path / "root"
    (found / "etc").mkdir(parents=True)
    (found / "etc/passwd").write_text("root:x:0:0::/root:/bin/bash\nslurm:x:64030:64030::/:/bin/false\n")
    (found / "etc/group").write_text("root:x:0:\nshadow:x:42:\nslurm:x:64030:\n")
    (found / "etc/shadow").write_text("root:*:1::::::\n")
    for name in ("passwd", "group", "shadow"):  # as beside a disk, for everybody to read
        (found / "etc" / name).chmod(0o444)
    return found


def test_files_keep_their_owners_and_secrets_their_modes(root: Path) -> None:
    accounts = read_accounts(root, "hpc")
    files = [File("/etc/hosts", b"127.0.0.1 localhost\n"), File("/etc/slurm/slurmdbd.conf", b"x", 0o600, "slurm")]
    entries = seed(root, "hpc", accounts, files)
    dbd = entries["/seed/etc/slurm/slurmdbd.conf"]
    assert (stat.S_IMODE(dbd.mode), dbd.uid, dbd.gid, dbd.content) == (0o600, 64030, 64030, b"x")
    keys = entries["/seed/home/hpc/.ssh"]
    assert (keys.mode, keys.uid) == (stat.S_IFDIR | 0o700, 1000)
    shadow = entries["/seed/etc/shadow"]
    assert (stat.S_IMODE(shadow.mode), shadow.uid, shadow.gid) == (0o640, 0, 42), "Debian's, whoever reads it here"
    passwd = entries["/seed/etc/passwd"]
    assert (stat.S_IMODE(passwd.mode), passwd.uid, passwd.gid) == (0o644, 0, 0)
    assert shadow.content.endswith(b"\nhpc:*:20000:0:99999:7:::\n")
    assert entries["/seed/etc/passwd"].content.splitlines()[-1].startswith(b"hpc:x:1000:1000:")


def test_an_account_that_the_image_has_is_left_as_it_is(root: Path) -> None:
    assert "/seed/etc/passwd" not in seed(root, "slurm", read_accounts(root, "slurm"), [])


def forbidden() -> Path:
    raise AssertionError("asked for the node image")


def test_the_accounts_of_a_machine_are_those_beside_its_disk(root: Path) -> None:
    assert accounts_of(root, forbidden, None) == root


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The folder of an image's files, from before accounts were kept there."""
    machine = tmp_path / "cache/pytest-ai-how/images/vm-ab12ab12ab12/machine"
    machine.mkdir(parents=True)
    manifest = {"name": "vm", "digest": "ab12" * 16, "artifact": "machine", "fingerprint": "", "content": ""}
    (machine.parent / "manifest.json").write_text(json.dumps(manifest))
    return machine


def test_root_reads_the_accounts_of_an_earlier_image_in_its_tree(
    earlier: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert accounts_of(earlier, lambda: root, None) == root


def test_without_root_an_earlier_image_is_refused_with_what_makes_it_anew(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("AI_HOW_MIRROR", raising=False)
    with pytest.raises(ImageError) as caught:
        accounts_of(earlier, forbidden, None)
    assert str(caught.value) == (
        f"{earlier}: holds no accounts, like all earlier images, and uid 1000 can't read those of the node image\n"
        "  expected: etc/passwd, etc/group, etc/shadow\n"
        f"  do: sudo rm -r {earlier.parent} && sudo env XDG_CACHE_HOME={tmp_path}/cache "
        f"{sys.executable} -m pytest_ai_how images build vm"
    )


def test_mount_points_have_the_owner_of_the_yaml(root: Path) -> None:
    mount = VirtiofsMount(tag="d", source="/d", mount="/srv/data", owner="hpc", group="slurm", mode="0750")
    [(path, entry)] = mount_points([mount], read_accounts(root, "hpc")).items()
    assert path == "/seed/srv/data"
    assert (entry.mode, entry.uid, entry.gid) == (stat.S_IFDIR | 0o750, 1000, 64030)


def test_the_initramfs_is_two_archives_that_only_its_owner_reads(root: Path, tmp_path: Path) -> None:
    base, target = tmp_path / "initrd.cpio", tmp_path / "initrd"
    base.write_bytes(cpio.archive({"/init": cpio.file(b"#!/bin/sh\n", 0o755)}))
    write_initrd(target, base, seed(root, "hpc", read_accounts(root, "hpc"), [File("/etc/hosts", b"h\n")]))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    first = base.stat().st_size
    assert target.read_bytes()[:first] == base.read_bytes()
    second = tmp_path / "second"
    second.write_bytes(target.read_bytes()[first:])
    listed = subprocess.run(
        ["cpio", "--list", "--quiet"], input=second.read_bytes(), capture_output=True, check=True
    ).stdout.decode()
    names = listed.split()
    assert names.index("seed") < names.index("seed/etc") < names.index("seed/etc/hosts")


def test_jobs_are_confined_and_leave_a_guest_its_own_memory() -> None:
    cluster = config()
    made = renderer(cluster, make_identity(node.name for node in cluster.nodes), Path("/state/shared"))
    files = {file.path: file.content.decode(errors="replace") for file in made.files(cluster.nodes[1])}
    settings = files["/etc/slurm/cgroup.conf"].splitlines()
    assert "CgroupPlugin=cgroup/v2" in settings
    assert {"ConstrainCores=yes", "ConstrainRAMSpace=yes", "ConstrainDevices=yes"} <= set(settings)
    assert (
        "NodeName=node01 NodeAddr=10.99.0.11 CPUs=1 RealMemory=939 MemSpecLimit=171 " in files["/etc/slurm/slurm.conf"]
    )
    assert [line.split()[:3] for line in files["/etc/fstab"].splitlines() if "virtiofs" in line] == [
        ["ai-how-shared", "/mnt/shared", "virtiofs"]
    ]
