"""What the YAML says about the shared file system."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pytest_ai_how.config.forms import AbsolutePath, AptLine, AptWord, HostFile, Model, Url


class AptRepository(Model):
    """A package repository as its vendor writes it down."""

    line: AptLine
    key: HostFile = Field(description="the file with the key that signs the repository")


class AptMirror(Model):
    """A copy of a vendor's repository."""

    url: Url
    suite: AptWord
    components: tuple[AptWord, ...] = Field(default=("non-free",), min_length=1)
    key: HostFile = Field(description="the file with the key that signs the repository")


class PackageSource(Model):
    """Where .deb packages come from: exactly one of the three."""

    folder: HostFile | None = Field(default=None, description="a local folder of .deb files")
    repository: AptRepository | None = None
    mirror: AptMirror | None = None


class BeeGfs(Model):
    """BeeGFS as it is to be installed, or, on an existing cluster, as it is claimed to be."""

    generation: Literal["7.4", "8"] = Field(description="7.4: beegfs-ctl and helperd; 8: the command beegfs")
    packages: PackageSource | None = Field(default=None, description="needed unless the machines exist already")
    authentication: bool = Field(default=True, description="connections are authenticated with a generated key")


class Storage(Model):
    """The shared file system."""

    kind: Literal["host-directory", "beegfs", "existing", "scratch", "none"] = Field(
        default="host-directory",
        description="scratch, driver host only: a new folder of this machine, removed afterwards",
    )
    mount: AbsolutePath = "/mnt/shared"
    beegfs: BeeGfs | None = None
