"""The kernel of an image's machines: its modules into the root, and an initramfs that mounts the root."""

from __future__ import annotations

import lzma
import shutil
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.cpio import Entry, archive, file, folder
from pytest_ai_how.image.definitions import LoadedRole
from pytest_ai_how.image.models import KernelSpec
from pytest_ai_how.image.sandbox import Sandbox

_MODULES = "usr/lib/modules"
_SETUP_SIGNATURE = b"HdrS"


@dataclass(frozen=True)
class Kernel:
    """A kernel whose modules are in a root. ``release`` is what ``uname -r`` says when it runs.

    ``packages`` are the names and versions of what it was unpacked from, ``unpacked`` the folder with the rest of it.
    """

    release: str
    packages: dict[str, str]
    unpacked: Path

    @property
    def vmlinuz(self) -> Path:
        """What boots."""
        return self.unpacked / "boot" / f"vmlinuz-{self.release}"

    @property
    def busybox(self) -> Path:
        """The program of the initramfs."""
        return self.unpacked / "usr/bin/busybox"


def add_kernel(spec: KernelSpec, root: Path, apt: Apt, sandbox: Sandbox) -> Kernel:
    """Fetch the newest kernel of ``spec``, put its modules into ``root`` and index them there.

    Raises ImageError when the mirror does not give it, or when its parts do not fit each other.
    """
    newest = apt.newest(spec.package)
    place = apt.folder / "kernel"
    packages = apt.unpack(apt.download([newest, spec.busybox]), place)
    releases = sorted(path.name for path in (place / _MODULES).glob("*"))
    if len(releases) != 1:
        raise ImageError(newest, f"holds modules for {', '.join(releases) or 'no kernel'}", expected="one kernel's")
    kernel = Kernel(releases[0], {**packages, spec.package: packages[newest]}, place)
    if (booted := release_of(kernel.vmlinuz)) != kernel.release:
        raise ImageError(newest, f"its kernel is {booted}, its modules are for {kernel.release}")
    shutil.copytree(place / _MODULES / kernel.release, root / _MODULES / kernel.release, symlinks=True)
    sandbox.run(["depmod", kernel.release], root=root)
    return kernel


def release_of(vmlinuz: Path) -> str:
    """What ``uname -r`` says of a bzImage. Raises ImageError when the file is none.

    The boot protocol (Documentation/arch/x86/boot.rst, 2.00 and later) has the signature at 0x202, and at 0x20E the
    offset, from 0x200, of ``6.12.117+deb13-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP …``.
    """
    with vmlinuz.open("rb") as stream:
        head = stream.read(0x10200)
    if len(head) < 0x210 or head[0x202:0x206] != _SETUP_SIGNATURE:
        raise ImageError(str(vmlinuz), "is no Linux kernel (bzImage)")
    at = 0x200 + struct.unpack_from("<H", head, 0x20E)[0]
    return head[at : head.index(b"\0", at)].decode("ascii", "replace").partition(" ")[0]


def initramfs(loaded: LoadedRole, kernel: Kernel, root: Path) -> bytes:
    """The initramfs: busybox, the role's files, and the modules in the order in which they load, as a cpio archive."""
    spec = loaded.role.kernel
    modules = load_order(root / _MODULES / kernel.release, spec.modules if spec else ())
    return archive(
        {
            **{f"/{name}": folder() for name in ("dev", "proc", "sys", "newroot", "modules")},
            "/dev/console": Entry(stat.S_IFCHR | 0o600, device=(5, 1)),
            "/bin/busybox": file(kernel.busybox.read_bytes(), 0o755),
            **{one.target: file(one.source.read_bytes(), one.mode) for one in loaded.initramfs},
            # Loaded in the order of their names.
            **{f"/modules/{number:02}-{_stem(path)}.ko": file(_plain(path)) for number, path in enumerate(modules)},
        }
    )


def load_order(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of the modules ``names`` and of all that these need, needed ones first, each once.

    ``modules.dep`` of kmod 34, the nearest need first::

        kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
    """
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[_stem(Path(path))] = [path, *rest.split()]
    found: dict[str, None] = {}
    for name in names:
        if name not in needs:
            raise ImageError(str(folder), f"has no module '{name}'", expected="every module that the initramfs loads")
        found.update(dict.fromkeys(reversed(needs[name])))
    return [folder / path for path in found]


def _stem(path: Path) -> str:
    """The kernel's name of a module: ``virtio-rng.ko.xz`` is ``virtio_rng``."""
    return path.name.partition(".ko")[0].replace("-", "_")


def _plain(path: Path) -> bytes:
    """What insmod of busybox reads: it knows no compression."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
