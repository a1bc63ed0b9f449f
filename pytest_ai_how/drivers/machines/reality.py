"""What the machines of a cluster really are and hold, to be compared with what the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.drivers.machines.render import File

#: What a configuration says of a machine's parts. Each is a text, to be compared as it is.
PARTS = ("cpus", "memory", "disk", "bridge", "mtu", "address", "pci", "cpu_model", "hugepages", "pinning")


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of one machine as whoever runs it tells them: ``{"memory": "1024 MiB", "pci": "none"}``.

    ``untold`` maps each of :data:`PARTS` that the driver does not hold to the plan to the reason.
    """

    parts: Mapping[str, str]
    untold: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Reality(Protocol):
    """A driver whose machines can be compared with the plan.

    Both methods raise :class:`~pytest_ai_how.errors.ProvisionError` naming the machine.
    """

    def shape(self, config: ClusterConfig, node: str) -> Shape:
        """What the machine is made of, from the hypervisor or the kernel, never from our own configuration."""

    def files(self, config: ClusterConfig, node: str) -> tuple[File, ...]:
        """What the machine is to hold, rendered anew from the configuration and the kept keys. Writes nothing."""


def planned(config: ClusterConfig, node: NodeConfig) -> dict[str, str]:
    """The parts that the configuration says, as :class:`Shape` has them."""
    network = config.network
    wire = {"bridge": network.bridge, "mtu": str(network.mtu)} if network else {}
    if network:
        wire["address"] = f"{node.address}/{network.subnet.prefixlen}"
    return {
        "cpus": str(node.cpus),
        "memory": f"{node.memory} MiB",
        "disk": f"{node.disk} GiB",
        **wire,
        "pci": " ".join(device.address for device in node.devices) or "none",
        "cpu_model": node.cpu_model or "not configured",
        "hugepages": node.hugepages or "none",
        "pinning": " ".join(map(str, node.pinning or ())) or "none",
    }
