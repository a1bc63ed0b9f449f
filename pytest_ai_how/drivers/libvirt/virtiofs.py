"""Which directories of this host a machine mounts by virtiofs, and what serves them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig, NodeConfig, VirtiofsMount
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.shell import quote

SHARED_TAG = "ai-how-shared"
# virtiofsd of Debian 13, of Debian 12 (QEMU's own), and of Fedora and openSUSE.
_PROGRAMS = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")


def virtiofsd() -> Path | None:
    """The program that serves directories; None when it is not installed."""
    return next((Path(program) for program in _PROGRAMS if os.access(program, os.X_OK)), None)


def direct(program: Path, folder: Path) -> Path:
    """A program in ``folder`` that is ``program`` and does direct I/O for machines that ask for it.

    By default it reads and writes through this host's page cache whatever a machine asks, and libvirt has no word for
    that option. It begins with ``-o`` in QEMU's own virtiofsd (7.2) and in the one written in Rust (1.13) alike.
    """
    found = folder / "virtiofsd"
    found.write_text(f'#!/bin/sh\nexec {quote([str(program)])} -o allow_direct_io "$@"\n')
    found.chmod(0o700)
    return found


def mounts_of(config: ClusterConfig, node: NodeConfig, shared: Path) -> tuple[VirtiofsMount, ...]:
    """What ``node`` mounts: the directory ``shared`` of the cluster, if it has one, then those of the YAML."""
    own = tuple(mount.model_copy(update={"source": str(_source(mount))}) for mount in node.virtiofs)
    if config.storage.kind != "host-directory":
        return own
    return (VirtiofsMount(tag=SHARED_TAG, source=str(shared), mount=config.storage.mount), *own)


def check_sources(nodes: Iterable[NodeConfig]) -> None:
    """Refuse a mount whose directory of this host is not there. Raises :class:`ProvisionError` with its path."""
    for node in nodes:
        for mount in node.virtiofs:
            source = _source(mount)
            if not source.is_dir():
                what = "is not a directory" if source.exists() else "does not exist"
                raise ProvisionError(
                    node.name,
                    f"virtiofs {mount.tag}: {source} {what} on this host",
                    expected=f"the directory that {node.name} mounts on {mount.mount}",
                    cure=f"mkdir -p {source}, or correct the mount's source",
                )


def _source(mount: VirtiofsMount) -> Path:
    return Path(mount.source).expanduser().resolve()
