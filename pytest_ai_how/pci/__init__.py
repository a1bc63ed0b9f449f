"""PCI devices of this host that virtual machines are given: what there is, who may have it, who holds it."""

from __future__ import annotations

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.pci.claims import Claim, claim, held, release
from pytest_ai_how.pci.plan import Assignment, Plan, Refusal, plan
from pytest_ai_how.pci.sysfs import Function, Host, read_host

__all__ = [
    "Assignment",
    "Claim",
    "Function",
    "Host",
    "Plan",
    "Refusal",
    "check",
    "claim",
    "held",
    "plan",
    "read_host",
    "refusals",
    "release",
]


def refusals(config: ClusterConfig) -> tuple[Refusal, ...]:
    """Why the devices of a cluster can't be given to its machines here; nothing when they can, or none is named."""
    return plan(config, read_host(), held()).refusals if _wants_devices(config) else ()


def check(config: ClusterConfig) -> None:
    """Refuse, before anything is made, devices that can't be had here.

    Raises :class:`~pytest_ai_how.errors.HostError` with every reason.
    """
    if _wants_devices(config):
        plan(config, read_host(), held()).demand()


def _wants_devices(config: ClusterConfig) -> bool:
    return any(node.devices for node in config.nodes)
