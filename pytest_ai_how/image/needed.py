"""Which images the machines of a cluster start from, and where their packages come from."""

from __future__ import annotations

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.storage import PackageSource

# What containers and the SIFs are made with, and what virtual machines boot, by generation of BeeGFS ("": none).
TREE_IMAGE = "node"
_DISKS = (("", "vm"), ("7.4", "vm-beegfs"), ("8", "vm-beegfs-8"))


def disk_image(config: ClusterConfig) -> str:
    """The image of kind disk that virtual machines of ``config`` boot."""
    beegfs = config.storage.beegfs if config.storage.kind == "beegfs" else None
    return dict(_DISKS)[beegfs.generation if beegfs else ""]


def origin(config: ClusterConfig) -> PackageSource | None:
    """Where the YAML says that packages come from which Debian lacks."""
    return config.storage.beegfs.packages if config.storage.beegfs else None


def images_of(config: ClusterConfig) -> tuple[str, ...]:
    """All images that ``config`` needs: what its machines boot, and the containers' unless it has no runtime.

    ``auto`` counts as containers, which need less; a cluster that finds itself on virtual machines builds what it
    lacks when it is brought up.
    """
    containers = config.containers.images if config.containers.runtime != "none" else ()
    if not config.is_ours:
        return containers
    return (disk_image(config) if config.driver == "libvirt" else TREE_IMAGE, *containers)
