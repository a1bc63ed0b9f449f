"""What this machine must have before an image can be built; each lack is a HostError that names its cure."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from pytest_ai_how.errors import HostError
from pytest_ai_how.image.mirror import VARIABLE
from pytest_ai_how.shell import quote

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# command: the Debian package that has it
TOOLS: Mapping[str, str] = MappingProxyType(
    {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "setpriv": "util-linux", "sync": "coreutils"}
)
# The same for disks of virtual machines.
DISK_TOOLS: Mapping[str, str] = MappingProxyType({"apt-get": "apt", "dpkg-deb": "dpkg", "qemu-img": "qemu-utils"})


def check_host(step: str, cure: str, *, keyring: Path = KEYRING, tools: Mapping[str, str] = TOOLS) -> None:
    """Refuse to begin ``step`` (``building the node image``) where it cannot end; ``cure`` does it as root.

    Raises HostError.
    """
    if os.geteuid() != 0:
        raise HostError(
            "localhost",
            f"{step} needs root; this is uid {os.geteuid()}",
            expected="root, to make device files and owners inside the image",
            cure=cure,
        )
    lacking = {package for command, package in tools.items() if shutil.which(command) is None}
    missing = [command for command in tools if shutil.which(command) is None]
    if missing:
        raise HostError(
            "localhost",
            f"{step} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            cure=f"apt-get install {' '.join(sorted(lacking))}",
        )
    if not keyring.is_file():
        raise HostError(
            str(keyring),
            f"{step} needs Debian's archive keys, which are not installed",
            cure="apt-get install debian-archive-keyring",
        )


def as_root(store: Path, names: Iterable[str], *, cluster: bool) -> str:
    """The command by which root builds images ``names`` into ``store``, whosever cache that is in.

    ``cluster`` says that only the cluster's YAML tells where their packages come from. root's own cache is another,
    its PATH too, and sudo passes no variables on. The cache itself stays its owner's, who keeps other things there.
    """
    cache = store.parent
    make = "" if cache.is_dir() else f"{quote(['mkdir', '-p', str(cache)])} && "
    mirror = os.environ.get(VARIABLE, "")
    env = [f"XDG_CACHE_HOME={cache.parent}", *([f"{VARIABLE}={mirror}"] if mirror else [])]
    build = [sys.executable, "-m", "pytest_ai_how", "images", "build", *names]
    return make + quote(["sudo", "env", *env, *build]) + (" --cluster CONFIG" if cluster else "")


def check_disk(folder: Path, needed: int, step: str) -> None:
    """Refuse ``step`` when less than ``needed`` bytes are free in ``folder``, which exists. Raises HostError."""
    free = free_bytes(folder)
    if free < needed:
        raise HostError(
            str(folder),
            f"{mib(free)} free, {step} needs {mib(needed)}",
            cure="make room, run `pytest-ai-how images prune`, or set XDG_CACHE_HOME to a larger file system",
        )


def free_bytes(folder: Path) -> int:
    """What an ordinary process may still write there, in bytes."""
    return shutil.disk_usage(folder).free


def mib(size: int) -> str:
    """``size`` bytes in whole MiB."""
    return f"{size // 2**20} MiB"
