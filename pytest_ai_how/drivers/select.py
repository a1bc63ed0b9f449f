"""Which driver makes the machines of a configuration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError
from pytest_ai_how.image import ensure_image, image_digest
from pytest_ai_how.progress import Progress, Silent

_LIBVIRT = "not part of this version"


def choose_driver(config: ClusterConfig, progress: Progress | None = None) -> Driver:
    """The driver that ``config.driver`` names; ``auto`` takes the first that works here.

    ``auto`` prefers virtual machines where KVM boots, then systemd-nspawn where we are root. ``progress`` hears of
    images that are built. Raises :class:`HostError` saying what each driver lacks.
    """
    if config.driver == "ssh":
        return SshDriver()
    if config.driver == "libvirt":
        raise HostError("localhost", f"driver libvirt: {_LIBVIRT}", cure="set driver: nspawn, or auto")
    lacking = nspawn_lacks()
    if config.driver == "auto" and lacking:
        raise HostError(
            "localhost",
            f"no driver can make machines here\n    libvirt: {_LIBVIRT}\n    nspawn: {lacking}",
            expected="root and systemd-nspawn",
            cure="run as root after: apt-get install systemd-container; or set driver: ssh for machines that exist",
        )
    # An nspawn that was asked for by name says itself what it lacks, when it is about to make machines.
    return nspawn_driver(progress or Silent())


def nspawn_driver(progress: Progress) -> NspawnDriver:
    """The nspawn driver over our own images, which are built when they are not there."""
    return NspawnDriver(lambda name: _image_path(name, progress), image_digest)


def nspawn_lacks() -> str:
    """Why no systemd-nspawn machine can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("systemd-nspawn") else "needs the program systemd-nspawn"


def _image_path(name: str, progress: Progress) -> Path:
    return ensure_image(name, progress).path
