"""What the tests of planning share: clusters whose machines are given devices."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from pytest_ai_how.config.models import ClusterConfig, Gpus, Network, NodeConfig, PciDevice

GPU_1 = PciDevice(address="0000:01:00.0", vendor="10de", device="2805")
AUDIO_1 = PciDevice(address="0000:01:00.1", vendor="10de", device="22bd", kind="audio")
GPU_7 = PciDevice(address="0000:07:00.0", vendor="10de", device="2504")
AUDIO_7 = PciDevice(address="0000:07:00.1", vendor="10de", device="228e", kind="audio")


def node(name: str, *devices: PciDevice, auto_start: bool = True) -> NodeConfig:
    """A machine with devices."""
    gpus = Gpus(kind="passthrough", count=1, type="rtx", devices=devices) if devices else None
    return NodeConfig(
        name=name, roles=("compute",), address=IPv4Address("10.79.0.11"), gpus=gpus, auto_start=auto_start
    )


def cluster(*nodes: NodeConfig, name: str = "hpc") -> ClusterConfig:
    """A cluster of a controller and ``nodes``."""
    controller = NodeConfig(name="controller", roles=("controller",), address=IPv4Address("10.79.0.10"))
    network = Network(subnet=IPv4Network("10.79.0.0/24"), bridge="aihow-t")
    return ClusterConfig(version=1, name=name, driver="libvirt", network=network, nodes=(controller, *nodes))
