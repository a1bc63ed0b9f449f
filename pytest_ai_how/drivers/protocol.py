"""What makes machines exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.transport.protocol import Transport


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a driver found out about this machine: shown in the header, and why a capability is absent.

    ``absent`` maps a capability (``cgroup.devices``, ``kvm`` …) to the reason.
    """

    driver: str
    notes: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)


class Driver(Protocol):
    """Makes the machines of a configuration, and unmakes them."""

    name: str

    def check(self, config: ClusterConfig) -> None:
        """Refuse, before anything is made, what cannot work here.

        Raises :class:`~pytest_ai_how.errors.HostError` or :class:`~pytest_ai_how.errors.ProvisionError`.
        """

    def facts(self) -> HostFacts:
        """What this host offers to machines of this driver."""

    def fingerprint(self, config: ClusterConfig) -> str:
        """A digest of all that goes into the machines: a kept cluster with the same one can be used again."""

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Make all machines and return when they were started; the undo of each part is journalled before the deed."""

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        """A transport to one of the machines, with its pinned host key."""

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        """The secrets that were made for the cluster and that no report may show; empty before :meth:`up`."""
