"""PCI devices of this host that virtual machines are given: what there is, who may have it, who holds it."""

from __future__ import annotations

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.pci.claims import Claim, claim, claiming, held, release
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
    "check_machine",
    "claim",
    "claiming",
    "held",
    "plan",
    "plan_here",
    "read_host",
    "refusals",
    "release",
    "starting",
]


def starting(config: ClusterConfig) -> ClusterConfig:
    """The cluster without the machines that are left off: those want no device until somebody starts them."""
    return config.model_copy(update={"nodes": tuple(node for node in config.nodes if node.auto_start)})


def plan_here(config: ClusterConfig) -> Plan:
    """The plan of one cluster on this host as it is now. Reads nothing where no device is named."""
    if not any(node.devices for node in config.nodes):
        return Plan((), ())
    return plan(config, read_host(), held())


def refusals(config: ClusterConfig) -> tuple[Refusal, ...]:
    """Why the machines of a cluster that start can't be given their devices here; none when they can."""
    return plan_here(starting(config)).refusals


def check_machine(config: ClusterConfig, node: NodeConfig) -> None:
    """Refuse devices of one machine that is about to be started by hand. Raises as :func:`check`."""
    alone = node.model_copy(update={"auto_start": True})
    plan_here(config.model_copy(update={"nodes": (alone,)})).demand()


def check(config: ClusterConfig) -> None:
    """Refuse, before anything is made, devices of machines that start, where they can't be had here.

    Raises :class:`~pytest_ai_how.errors.HostError` with every reason.
    """
    plan_here(starting(config)).demand()
