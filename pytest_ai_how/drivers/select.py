"""Which driver makes the machines of a configuration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.drivers.host import HostDriver
from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError, ImageError
from pytest_ai_how.image import ensure_image, image_digest
from pytest_ai_how.progress import Progress, Silent

if TYPE_CHECKING:
    from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver


def choose_driver(config: ClusterConfig, progress: Progress | None = None) -> Driver:
    """The driver that ``config.driver`` names; ``auto`` takes the first that works here.

    ``auto`` prefers virtual machines where KVM boots, then systemd-nspawn where we are root. ``progress`` hears of
    images that are built. Raises :class:`HostError` saying what each driver lacks.
    """
    said = progress or Silent()
    if config.driver == "ssh":
        return SshDriver()
    if config.driver == "host":
        return HostDriver()
    if config.driver == "libvirt":
        return libvirt_driver(said)
    if config.driver == "nspawn":
        # One that was asked for by name says itself what it lacks, when it is about to make machines.
        return nspawn_driver(said)
    if not (no_libvirt := libvirt_lacks()):
        return libvirt_driver(said)
    if no_nspawn := nspawn_lacks():
        raise HostError(
            "localhost",
            f"no driver can make machines here\n    libvirt: {no_libvirt}\n    nspawn: {no_nspawn}",
            expected="KVM and libvirt, or root and systemd-nspawn",
            cure="run as root after: apt-get install systemd-container; or set driver: ssh for machines that exist",
        )
    return nspawn_driver(said)


def libvirt_driver(progress: Progress) -> LibvirtDriver:
    """The libvirt driver over our own images, which are built when they are not there."""
    from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver

    def image(name: str, packages: PackageSource | None) -> Path:
        return ensure_image(name, progress, packages).path

    return LibvirtDriver(image, image_digest, no_kvm)


def libvirt_lacks() -> str:
    """Why no virtual machine can be made here at its full speed; empty when one can."""
    from pytest_ai_how.drivers.libvirt.daemon import chosen_daemon
    from pytest_ai_how.drivers.libvirt.host import host_lacks

    if why := host_lacks() or no_kvm():
        return why
    try:
        chosen_daemon()
    except HostError as error:
        return error.seen
    return ""


def nspawn_driver(progress: Progress) -> NspawnDriver:
    """The nspawn driver over our own images, which are built when they are not there."""
    return NspawnDriver(lambda name: ensure_image(name, progress).path, image_digest)


def nspawn_lacks() -> str:
    """Why no systemd-nspawn machine can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("systemd-nspawn") else "needs the program systemd-nspawn"


def no_kvm() -> str:
    """Why machines are emulated here; empty where KVM boots them. The first look boots the image's kernel."""
    from pytest_ai_how.drivers.libvirt import kvm

    try:
        return kvm.no_kvm(lambda: ensure_image("vm", Silent()).path)
    except (HostError, ImageError) as error:
        return f"KVM was not probed, for want of a kernel: {error.where}: {error.seen}"
