"""Which driver makes the machines of a configuration."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.drivers.host import HostDriver
from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError, ImageError
from pytest_ai_how.image import ensure_image, find_image, image_digest
from pytest_ai_how.progress import Progress, Silent

if TYPE_CHECKING:
    from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver


def choose_driver(config: ClusterConfig, progress: Progress | None = None, *, builds: bool = True) -> Driver:
    """The driver that ``config.driver`` names; ``auto`` takes the first that works here.

    ``auto`` prefers virtual machines where KVM boots, then systemd-nspawn where we are root. ``progress`` hears of
    images that are built. Unless it ``builds``, none is built to find out whether KVM boots it: the driver's facts
    then say that this is not known. Raises :class:`HostError` saying what each driver lacks.
    """
    said = progress or Silent()
    if config.driver == "ssh":
        return SshDriver()
    if config.driver == "host":
        return HostDriver()
    if config.driver == "libvirt":
        return libvirt_driver(said, builds=builds)
    if config.driver == "nspawn":
        # One that was asked for by name says itself what it lacks, when it is about to make machines.
        return nspawn_driver(said)
    return _first(said, builds=builds)


def _first(progress: Progress, *, builds: bool) -> Driver:
    """What ``auto`` takes. Where nobody knows yet what KVM does, the driver that can be had is the answer of now."""
    unknown = "" if builds else unprobed()
    no_libvirt = unknown or libvirt_lacks(progress, builds=builds)
    no_nspawn = nspawn_lacks() if no_libvirt else ""
    if not no_libvirt or (unknown and no_nspawn):
        return libvirt_driver(progress, builds=builds)
    if no_nspawn:
        raise HostError(
            "localhost",
            f"no driver can make machines here\n    libvirt: {no_libvirt}\n    nspawn: {no_nspawn}",
            expected="KVM and libvirt, or root and systemd-nspawn",
            cure="run as root after: apt-get install systemd-container; or set driver: ssh for machines that exist",
        )
    return nspawn_driver(progress, (f"virtual machines where KVM boots them: {unknown}",) if unknown else ())


def libvirt_driver(progress: Progress, *, builds: bool = True) -> LibvirtDriver:
    """The libvirt driver over our own images, which are built when they are not there.

    Unless it ``builds``, no image is built for its facts; machines that it makes have theirs built all the same.
    """
    from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver

    def image(name: str, packages: PackageSource | None) -> Path:
        return ensure_image(name, progress, packages).path

    if builds:
        return LibvirtDriver(image, image_digest, partial(no_kvm, progress))
    return LibvirtDriver(image, image_digest, partial(no_kvm, progress, builds=False), unprobed)


def libvirt_lacks(progress: Progress, *, builds: bool) -> str:
    """Why no virtual machine can be made here at its full speed; empty when one can."""
    from pytest_ai_how.drivers.libvirt.daemon import chosen_daemon
    from pytest_ai_how.drivers.libvirt.host import host_lacks

    if why := host_lacks() or no_kvm(progress, builds=builds):
        return why
    try:
        chosen_daemon()
    except HostError as error:
        return error.seen
    return ""


def nspawn_driver(progress: Progress, notes: tuple[str, ...] = ()) -> NspawnDriver:
    """The nspawn driver over our own images, which are built when they are not there; ``notes`` join its facts."""
    return NspawnDriver(lambda name: ensure_image(name, progress).path, image_digest, notes)


def nspawn_lacks() -> str:
    """Why no systemd-nspawn machine can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("systemd-nspawn") else "needs the program systemd-nspawn"


def no_kvm(progress: Progress, *, builds: bool = True) -> str:
    """Why machines are emulated here; empty where KVM boots them. The first look boots the image's kernel.

    ``progress`` hears of the image that is built for that, if it ``builds`` one.
    """
    from pytest_ai_how.drivers.libvirt import kvm

    try:
        return kvm.no_kvm((lambda: ensure_image("vm", progress).path) if builds else _kernel)
    except (HostError, ImageError) as error:
        return f"KVM was not probed, for want of a kernel: {error.where}: {error.seen}"


def unprobed() -> str:
    """Why it can't be told, with nothing built for it, whether KVM boots machines here; empty when it can."""
    from pytest_ai_how.drivers.libvirt import kvm
    from pytest_ai_how.drivers.libvirt.host import host_lacks

    if host_lacks():
        return ""
    try:
        kvm.no_kvm(_kernel)
    except ImageError as error:
        return f"KVM was not probed: {error.where}: {error.seen}"
    return ""


def _kernel() -> Path:
    """The folder of the image whose kernel tells, when it is there. Raises ImageError when it is not."""
    if image := find_image("vm"):
        return image.path
    raise ImageError("vm image", "to be built, and its kernel is what tells")
