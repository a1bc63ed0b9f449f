"""What makes machines exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pytest_ai_how.config.models import ClusterConfig, VirtiofsMount
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.node import Node
from pytest_ai_how.transport.protocol import Transport

#: Of one machine: it runs; it was made and does not run; there is none.
State = Literal["running", "off", "absent"]


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


@runtime_checkable
class Refuses(Protocol):
    """A driver that can tell all at once what :meth:`Driver.check` would refuse one by one: what a plan shows."""

    def refusals(self, config: ClusterConfig) -> Sequence[AiHowError]:
        """Why the machines can't be made here, in the order of finding; none when they can."""


@runtime_checkable
class Paced(Protocol):
    """A driver whose machines are slower than this host."""

    @property
    def pace(self) -> float:
        """How many times longer than on this host what they do may take; at least 1."""


@runtime_checkable
class Contacts(Protocol):
    """A driver whose :meth:`Driver.up` runs a command on each machine, over the transport that it hands out next."""

    @property
    def contacted(self) -> bool:
        """Whether all machines have answered, and their connections wait for whoever asks for the transports."""


@runtime_checkable
class Directories(Protocol):
    """A driver whose machines mount directories of this host."""

    def mounts(self, config: ClusterConfig, node: str) -> Sequence[VirtiofsMount]:
        """What the machine mounts, the shared file system first where it is one; ``source`` is a path of this host."""


@runtime_checkable
class Defines(Protocol):
    """A driver whose machines have a definition in libvirt."""

    def definition(self, config: ClusterConfig, node: str) -> str:
        """The machine's live definition, as libvirt tells it: domain XML."""


@runtime_checkable
class Warms(Protocol):
    """A driver that can keep machines that are ready, and let the next bring-up continue from them (``restore``)."""

    def is_warm(self, config: ClusterConfig) -> bool:
        """Whether machines like these are kept.

        :meth:`Driver.up` continues from them in place of a boot then, and has logged in to each when it returns.
        """

    def keep_warm(self, config: ClusterConfig) -> None:
        """Keep the machines as they are now; they stand still for some seconds and go on.

        Raises :class:`~pytest_ai_how.errors.ProvisionError` when they can't be kept.
        """


@runtime_checkable
class Power(Protocol):
    """A driver whose machines can be switched off and on one by one: what faults and life-cycle checks need.

    Each method raises :class:`~pytest_ai_how.errors.ProvisionError` naming the machine.
    """

    def state(self, config: ClusterConfig, node: str) -> State:
        """What the machine is in now, from whoever runs it: libvirt, or the kernel's list of processes."""

    def stop(self, config: ClusterConfig, node: str, *, force: bool = False, within: float = 60.0) -> None:
        """Switch it off and return when it is: asked first, cut off after ``within`` seconds; ``force`` cuts at once.

        Its disk stays.
        """

    def start(self, config: ClusterConfig, node: str) -> None:
        """Switch it on again with the disk that it had, and return when it was started, not when it answers."""

    def consoles(self, config: ClusterConfig) -> Mapping[str, Path]:
        """The file that holds each machine's console since it was made, by node."""


@runtime_checkable
class Deploys(Protocol):
    """A driver that fills the registry after the machines serve the storage that it lies on, not before they boot."""

    def deploy(self, config: ClusterConfig, controller: Node) -> None:
        """Put the container images into the registry through ``controller``; nothing to do when they are there."""
