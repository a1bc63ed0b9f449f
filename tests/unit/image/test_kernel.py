"""A kernel's release is read from the kernel itself, and modules load after all that they need."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.kernel import Kernel, initramfs, load_order, release_of

# modules.dep of Linux 6.12.117+deb13-cloud-amd64, kmod 34
MODULES_DEP = """\
kernel/net/core/failover.ko.xz:
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/block/virtio_blk.ko.xz:
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
"""
VERSION = b"6.12.117+deb13-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1\0"


def bzimage(version: bytes = VERSION, at: int = 0x3E00) -> bytes:
    """The head of a kernel, as boot.rst lays it out: signature at 0x202, the version's offset at 0x20E."""
    head = bytearray(0x200 + at)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, at)
    return bytes(head) + version


def test_the_release_is_in_the_kernels_own_header(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage())
    assert release_of(tmp_path / "vmlinuz") == "6.12.117+deb13-cloud-amd64"


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(4096), bzimage()[:0x208]])
def test_what_is_no_kernel_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vmlinuz").write_bytes(content)
    with pytest.raises(ImageError, match=r"vmlinuz: is no Linux kernel \(bzImage\)"):
        release_of(tmp_path / "vmlinuz")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "root/usr/lib/modules/6.12"
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text(MODULES_DEP)
    for line in MODULES_DEP.splitlines():
        path = folder / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(path.name.encode()))
    return folder


def test_needed_modules_come_first_and_once(modules: Path) -> None:
    found = load_order(modules, ("virtio_rng", "virtio_net", "net_failover", "virtio_blk"))
    assert [path.name.partition(".")[0] for path in found] == [
        "virtio-rng",
        "failover",
        "net_failover",
        "virtio_net",
        "virtio_blk",
    ]


def test_a_module_that_the_kernel_lacks_is_named(modules: Path) -> None:
    with pytest.raises(ImageError, match="6.12: has no module 'virtio_mmio'"):
        load_order(modules, ("virtio_mmio",))


def test_the_initramfs_holds_init_busybox_and_plain_modules(disk_source: Source, modules: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    (unpacked / "usr/bin").mkdir(parents=True)
    (unpacked / "usr/bin/busybox").write_bytes(b"busybox")
    packed = initramfs(disk_source.define("vm").kernel, Kernel("6.12", {}, unpacked), tmp_path / "root")
    positions = [
        packed.index(name)
        for name in (b"bin/busybox\0", b"init\0", b"modules/00-virtio_blk.ko\0", b"modules/01-failover.ko\0")
    ]
    assert positions == sorted(positions)
    assert b"modules/03-virtio_net.ko\0" in packed
    assert b"#!/bin/busybox sh\n" in packed
    # insmod of busybox reads what is not compressed
    assert b"virtio_net.ko.xz" in packed
    assert lzma.compress(b"virtio_net.ko.xz") not in packed
