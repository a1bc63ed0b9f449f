"""What the YAML says about machines: the network, the nodes, and the devices of the host that they are given."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from pydantic import Field

from pytest_ai_how.config.forms import (
    AbsolutePath,
    BridgeName,
    CpuModel,
    FileMode,
    HostFile,
    Model,
    Name,
    PciAddress,
    PciId,
    Role,
    SlurmName,
    UserName,
    VirtiofsTag,
)

# The kernel's largest CONFIG_NR_CPUS on x86 is 8192.
CpuNumber = Annotated[int, Field(ge=0, le=8191)]


class Network(Model):
    """The private network that the machines talk on."""

    subnet: IPv4Network
    bridge: BridgeName
    mtu: int = Field(default=1500, ge=576, le=9216)

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's own address: the first host of the subnet."""
        return self.subnet.network_address + 1


class PciDevice(Model):
    """One function of a PCI device of the host, given to one machine as it is."""

    address: PciAddress
    vendor: PciId
    device: PciId
    kind: Literal["gpu", "audio", "usb", "network", "storage", "other"] = "gpu"
    boot_vga: bool = Field(default=False, description="true: take it although this machine's console is on it")

    @property
    def slot(self) -> str:
        """The address without its function: what the functions of one card share."""
        return self.address.rpartition(".")[0]

    @property
    def ids(self) -> str:
        """``vendor:device``, as lspci -n writes it."""
        return f"{self.vendor}:{self.device}"


class Gpus(Model):
    """The GPUs of one node. ``simulated`` devices prove scheduling and isolation where no GPU is.

    ``nvidia`` are those that the driver of the node's kernel has: with systemd-nspawn this host's, which are given to
    the nodes in the order of the file, each to one.
    """

    kind: Literal["simulated", "nvidia", "passthrough"] = "simulated"
    count: int = Field(ge=1, le=16)
    type: SlurmName = "sim"
    devices: tuple[PciDevice, ...] = Field(
        default=(), description="passthrough only: every function of the IOMMU groups, each GPU before its audio"
    )


class VirtiofsMount(Model):
    """A directory of this machine that one node mounts."""

    tag: VirtiofsTag
    source: HostFile
    mount: AbsolutePath
    owner: UserName = Field(default="root", description="of the mount point in the node")
    group: UserName = "root"
    mode: FileMode = "0755"
    read_only: bool = False


class NodeConfig(Model):
    """One machine."""

    name: Name
    roles: tuple[Role, ...] = Field(min_length=1)
    address: IPv4Address
    cpus: int = Field(default=2, ge=1, le=1024)
    memory: int = Field(default=1024, ge=256, le=64 * 1024 * 1024, description="MiB")
    disk: int = Field(default=10, ge=1, le=65536, description="GiB; libvirt only")
    cpu_model: CpuModel | None = Field(default=None, description="libvirt only; default: the host's where KVM boots")
    hugepages: Literal["2M", "1G"] | None = Field(default=None, description="libvirt only: pages that hold the memory")
    pinning: tuple[CpuNumber, ...] | None = Field(default=None, description="libvirt only: a host CPU for each CPU")
    auto_start: bool = Field(default=True, description="false: defined and off, holding no device")
    virtiofs: tuple[VirtiofsMount, ...] = ()
    gpus: Gpus | None = None

    @property
    def devices(self) -> tuple[PciDevice, ...]:
        """The PCI devices of the host that the machine is given, in the order of the file."""
        return self.gpus.devices if self.gpus else ()
