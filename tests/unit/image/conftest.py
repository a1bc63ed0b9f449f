"""A small world of definitions that a test may break: two roles that can be needed, one image, versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ai_how.image.definitions import Source

FILES = {
    "roles/base/role.yaml": "description: the base\npackages: [systemd, fio]\nunits:\n  enable: [ssh.service]\n",
    "roles/base/files/etc/motd": "hello\n",
    "roles/top/role.yaml": (
        "description: the top\nneeds: [base]\npackages: [fio, apptainer]\n"
        'directories:\n  - {path: /srv/x, mode: "0750"}\nsteps:\n  - {run: [echo, hi]}\n'
    ),
    "roles/top/files/usr/bin/tool": "#!/bin/sh\n",
    "images/node.yaml": "description: a node\nkind: tree\nroles: [top]\ndisk: 0\nexclude: [/usr/share/doc/*]\n",
    "versions.yaml": (
        "version: 1\nsuite: trixie\ncomponents: [main]\nepoch: 1700000000\n"
        'packages:\n  apptainer: {suite: sid, at_least: 1.4.2}\n  fio: {series: "3.39"}\n'
    ),
}

# A disk of that node, and a role with a kernel.
DISK_FILES = {
    "images/vm.yaml": "description: a disk\nkind: disk\nof: node\nroles: [kernel]\nsize: 4\ndisk: 0\non_demand: true\n",
    "roles/kernel/role.yaml": (
        "description: a kernel\nneeds: [base]\n"
        "kernel: {package: linux-image, busybox: busybox-static, modules: [virtio_blk, virtio_net]}\n"
    ),
    "roles/kernel/initramfs/init": "#!/bin/busybox sh\n",
}

# A container of another suite, with Python packages.
SIF_FILES = {
    "images/box.yaml": "description: a box\nkind: sif\nsuite: bookworm\nroles: [torch]\ndisk: 0\n",
    "roles/torch/role.yaml": "description: trains\nneeds: [base]\nwheels: packages.lock\n",
    "roles/torch/packages.lock": (
        "# compiled so\n"
        f"Tiny_Torch==2.1+cpu \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
        f"numpy==1.0 --hash=sha256:{'c' * 64}  # via tiny-torch\n"
    ),
    "versions.yaml": FILES["versions.yaml"] + 'suites:\n  bookworm:\n    systemd: {series: "252"}\n',
}

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / "world" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    for name, text in FILES.items():
        write(name, text)
    (tmp_path / "world/roles/top/files/usr/bin/tool").chmod(0o755)
    return write


@pytest.fixture
def source(tmp_path: Path, write: Write) -> Source:
    return Source(tmp_path / "world", tmp_path / "world/versions.yaml")


@pytest.fixture
def disk_source(source: Source, write: Write) -> Source:
    """The same world with a disk in it."""
    for name, text in DISK_FILES.items():
        write(name, text)
    (source.provisioning / "roles/kernel/initramfs/init").chmod(0o755)
    return source


@pytest.fixture
def sif_source(source: Source, write: Write) -> Source:
    """The same world with a container of another suite, which has Python packages."""
    for name, text in SIF_FILES.items():
        write(name, text)
    return source
