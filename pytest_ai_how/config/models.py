"""What a cluster's YAML says, as frozen models. Loading, line numbers and expansion live beside this in ``loader``."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


def _pattern(kind: object) -> str:
    (field,) = get_args(kind)[1:]
    return next(str(part.pattern) for part in field.metadata if getattr(part, "pattern", None))


# RFC 1123 label; also what systemd-nspawn, libvirt and Slurm accept as a host name.
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", max_length=32)]
# A Linux interface name holds 15 characters (IFNAMSIZ - 1).
BridgeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,14}$")]
# No component is "." or "..": a path names one place.
AbsolutePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+$", max_length=255)]
UserName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]
SlurmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
# Slurm's own time formats: minutes, [days-]hours:minutes:seconds, or UNLIMITED.
SlurmTime = Annotated[str, Field(pattern=r"^([0-9]{1,8}|([0-9]{1,5}-)?[0-9]{1,3}:[0-9]{2}:[0-9]{2}|UNLIMITED)$")]
# A file on this machine, ~ allowed.
HostFile = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1024)]
Role = Literal["controller", "compute", "storage"]

# What a pattern asks for, in words; errors say this instead of the pattern.
FORMS: Mapping[str, str] = MappingProxyType(
    {
        _pattern(kind): words
        for kind, words in (
            (Name, "lower-case letters, digits and inner hyphens, a letter first, at most 32 characters"),
            (BridgeName, "lower-case letters, digits and hyphens, a letter first, at most 15 characters"),
            (AbsolutePath, "an absolute path of letters, digits and ._@+-, no component starting with a dot"),
            (UserName, "lower-case letters, digits, _ and -, a letter or _ first, at most 31 characters"),
            (SlurmName, "letters, digits and _.-, a letter or digit first, at most 63 characters"),
            (SlurmTime, "minutes, [days-]hours:minutes:seconds, or UNLIMITED"),
            (HostFile, "a file name without control characters"),
        )
    }
)


class Model(BaseModel):
    """Settings that all parts of the configuration share: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


class Network(Model):
    """The private network that the machines talk on."""

    subnet: IPv4Network
    bridge: BridgeName
    mtu: int = Field(default=1500, ge=576, le=9216)

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's own address: the first host of the subnet."""
        return self.subnet.network_address + 1


class Gpus(Model):
    """The GPUs of one node. ``simulated`` devices prove scheduling and isolation where no GPU is."""

    kind: Literal["simulated", "nvidia", "passthrough"] = "simulated"
    count: int = Field(ge=1, le=16)
    type: SlurmName = "sim"


class NodeConfig(Model):
    """One machine."""

    name: Name
    roles: tuple[Role, ...] = Field(min_length=1)
    address: IPv4Address
    cpus: int = Field(default=2, ge=1, le=1024)
    memory: int = Field(default=1024, ge=256, le=64 * 1024 * 1024, description="MiB")
    disk: int = Field(default=10, ge=1, le=65536, description="GiB; libvirt only")
    gpus: Gpus | None = None


class Storage(Model):
    """The shared file system."""

    kind: Literal["host-directory", "beegfs", "existing", "none"] = "host-directory"
    mount: AbsolutePath = "/mnt/shared"


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


class Containers(Model):
    """The container runtime and the directory registry on shared storage."""

    runtime: Literal["apptainer", "none"] = "apptainer"
    registry: AbsolutePath | None = Field(default=None, description="default: <storage.mount>/containers")
    fallback: AbsolutePath = "/opt/containers"
    images: tuple[Name, ...] = ("base", "pytorch")


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
    driver: Literal["auto", "nspawn", "libvirt", "ssh"] = "auto"
    user: UserName = Field(default="hpc", description="the unprivileged account that jobs run as")
    network: Network | None = None
    nodes: tuple[NodeConfig, ...] = Field(min_length=1)
    storage: Storage = Storage()
    slurm: Slurm | None = None
    containers: Containers = Containers()
    ssh: Ssh = Ssh()
    absent: tuple[str, ...] = Field(default=(), description="capabilities that this site declares it does not have")
    limits: Name = "local"

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
