"""Roles change what is below the root, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.customize import customize, remove
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.shell import Result
from tests.unit.image.conftest import Write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("etc", "var/log", "var/cache/apt"):
        (root / folder).mkdir(parents=True)
    user = f"{os.getuid()}:{os.getgid()}"
    (root / "etc/passwd").write_text(f"me:x:{user}::/:/bin/sh\n")
    (root / "etc/group").write_text(f"me:x:{os.getgid()}:\n")
    return root


def apply(source: Source, write: Write, root: Path, role: str) -> None:
    write("roles/top/role.yaml", f"description: x\n{role}")
    with Sandbox() as sandbox:
        customize(source.define("node"), root, sandbox)


def test_files_directories_links_and_stamps(source: Source, write: Write, root: Path) -> None:
    (root / "etc/fstab").write_text("/dev/sda1 / ext4\n")
    (root / "etc/key").write_text("secret")
    apply(
        source,
        write,
        root,
        "directories:\n  - {path: /srv/x, owner: me, group: me, mode: '0750'}\n"
        "links: {/etc/a: /dev/null}\nempty: [/etc/fstab]\nstamps: [/etc/.updated]\nremove: [/etc/k*]\n",
    )
    assert (root / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "srv/x").stat().st_mode & 0o777 == 0o750
    assert (root / "etc/a").readlink() == Path("/dev/null")
    assert (root / "etc/fstab").read_text() == ""
    assert (root / "etc/.updated").stat().st_mtime == 2145916800
    assert not (root / "etc/key").exists()


def test_the_umask_of_who_builds_is_in_no_image(source: Source, write: Write, root: Path) -> None:
    before = os.umask(0o077)
    try:
        apply(source, write, root, "links: {/opt/deep/a: /dev/null}\nempty: [/etc/fstab]\nstamps: [/etc/.updated]\n")
    finally:
        os.umask(before)
    modes = {name: (root / name).stat().st_mode & 0o777 for name in ("opt", "opt/deep", "etc/fstab", "etc/.updated")}
    assert modes == {"opt": 0o755, "opt/deep": 0o755, "etc/fstab": 0o644, "etc/.updated": 0o644}


def test_an_unknown_owner_names_the_role(source: Source, write: Write, root: Path) -> None:
    with pytest.raises(ImageError, match="role top: /srv/x: the image knows no user or group 'slurm'"):
        apply(source, write, root, "directories:\n  - {path: /srv/x, owner: slurm, group: me}\n")


def test_a_link_in_the_root_does_not_lead_out_of_it(source: Source, write: Write, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "var/run").symlink_to(tmp_path / "outside")
    with pytest.raises(ImageError, match=r"/var/run/x/y: leads out of the image"):
        apply(source, write, root, "empty: [/var/run/x/y]\n")
    assert list((tmp_path / "outside").iterdir()) == []


class Told(Sandbox):
    """A sandbox in which nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, Mapping[str, str]]] = []

    def run(self, argv: Sequence[str], **how: Any) -> Result:
        self.told.append((argv[0], how["env"]))
        return Result(tuple(argv), 0, "")


def test_what_runs_is_told_the_time_to_write(source: Source, write: Write, root: Path) -> None:
    """useradd would write today's date into /etc/shadow, and images built on two days would differ by it."""
    users = "users: [{name: hpc, uid: 1000, home: /home/hpc}]"
    write("roles/top/role.yaml", f"description: x\n{users}\nsteps: [{{run: [make]}}]\nunits: {{enable: [a.service]}}\n")
    sandbox = Told()
    customize(source.define("node"), root, sandbox)
    time = {"SOURCE_DATE_EPOCH": "1700000000"}
    assert sandbox.told == [(name, time) for name in ("groupadd", "useradd", "make", "systemctl")]


def test_remove_does_not_follow_links(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "var/log/link").symlink_to(tmp_path / "outside")
    (root / "var/log/folder").mkdir()
    remove(root, ["var/log/*"])
    assert list((root / "var/log").iterdir()) == []
    assert (tmp_path / "outside").is_dir()
