"""What a cluster's YAML says, as frozen models. Loading, line numbers and expansion live beside this in ``loader``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from pytest_ai_how.config.forms import (
    EXISTING,
    FORMS,
    AbsolutePath,
    HostFile,
    Model,
    Name,
    Role,
    SlurmName,
    SlurmTime,
    UserName,
)
from pytest_ai_how.config.machines import Gpus, Network, NodeConfig, PciDevice, VirtiofsMount
from pytest_ai_how.config.monitoring import Monitoring
from pytest_ai_how.config.outside import Claims, Outside
from pytest_ai_how.config.storage import BeeGfs, PackageSource, Storage

__all__ = [
    "FORMS",
    "BeeGfs",
    "Claims",
    "ClusterConfig",
    "Containers",
    "Gpus",
    "Monitoring",
    "Network",
    "NodeConfig",
    "Outside",
    "PackageSource",
    "Partition",
    "PciDevice",
    "Role",
    "Slurm",
    "Ssh",
    "Storage",
    "VirtiofsMount",
]


class Partition(Model):
    """One Slurm partition."""

    name: SlurmName
    nodes: tuple[Name, ...] = Field(min_length=1)
    default: bool = False
    max_time: SlurmTime = "UNLIMITED"


class Slurm(Model):
    """Slurm as it is to be, or, on an existing cluster, as it is claimed to be."""

    cluster: SlurmName
    partitions: tuple[Partition, ...] = Field(min_length=1)
    accounting: bool = True
    account: SlurmName = "default"


def served(image: str) -> str:
    """The name under which a cluster knows an image: its builds for NVIDIA GPUs serve in place of that for CPUs.

    >>> served("pytorch-cuda"), served("base")
    ('pytorch', 'base')
    """
    return image.removesuffix("-cuda")


class Containers(Model):
    """The container runtime and the directory registry on shared storage."""

    runtime: Literal["apptainer", "none"] = "apptainer"
    registry: AbsolutePath | None = Field(default=None, description="default: <storage.mount>/containers")
    fallback: AbsolutePath = "/opt/containers"
    images: tuple[Name, ...] = Field(
        default=("base", "mpi", "pytorch"), description="pytorch-cuda and oumi-cuda serve as pytorch and oumi, on GPUs"
    )

    @property
    def served(self) -> dict[str, str]:
        """The images by the names under which the cluster knows them, see :func:`served`."""
        return {served(image): image for image in self.images}


class Ssh(Model):
    """How to reach machines that exist already (driver ``ssh``)."""

    user: UserName = "root"
    port: int = Field(default=22, ge=1, le=65535)
    key: HostFile | None = None
    known_hosts: HostFile = "~/.ssh/known_hosts"
    sudo: bool = False


class ClusterConfig(Model):
    """A cluster: what is made, or what is expected of one that exists."""

    version: Literal[1]
    name: Name
    driver: Literal["auto", "nspawn", "libvirt", "ssh", "host"] = "auto"
    launcher: Literal["slurm", "direct"] = Field(
        default="slurm", description="what starts work; direct: processes of the machine itself, driver host only"
    )
    python: HostFile | None = Field(
        default=None, description="machines that exist, without containers: the interpreter that has PyTorch"
    )
    user: UserName = Field(default="hpc", description="the unprivileged account that jobs run as")
    network: Network | None = None
    nodes: tuple[NodeConfig, ...] = Field(min_length=1)
    storage: Storage = Storage()
    slurm: Slurm | None = None
    containers: Containers = Containers()
    monitoring: Monitoring = Monitoring()
    ssh: Ssh = Ssh()
    outside: Outside | None = Field(default=None, description="default: machines that we make reach nothing outside")
    claims: Claims = Claims()
    bringup: Literal["boot", "restore"] = Field(
        default="boot", description="restore, libvirt only: continue from the saved state of a cluster that was ready"
    )
    absent: tuple[str, ...] = Field(default=(), description="capabilities that this site declares it does not have")
    limits: Name = "local"

    @property
    def is_ours(self) -> bool:
        """Whether we make its machines; those of the drivers ``ssh`` and ``host`` belong to somebody."""
        return self.driver not in EXISTING

    @property
    def interpreter(self) -> str | None:
        """The path of the Python that ``python`` names."""
        return None if self.python is None else str(Path(self.python).expanduser())

    def on(self, role: Role) -> tuple[NodeConfig, ...]:
        """The nodes that have ``role``, in the order of the file."""
        return tuple(node for node in self.nodes if role in node.roles)

    @property
    def controller(self) -> NodeConfig:
        """The machine of slurmctld."""
        return self.on("controller")[0]

    @property
    def registry(self) -> str:
        """The folder of the container registry."""
        return self.containers.registry or f"{self.storage.mount}/containers"
