"""What a machine does when it is idle, to be compared before and after it was switched off and on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_ai_how.config.capabilities import declared_absent
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.facts import Fact, read
from pytest_ai_how.listening import LISTENING
from pytest_ai_how.node import Node
from pytest_ai_how.services.protocol import Service

from ._facts import FAILED, STATE, units

#: The capability with which a cluster has each of our services.
SERVICES: Mapping[str, str] = MappingProxyType(
    {
        "munge": "slurm",
        "slurm": "slurm",
        "accounting": "accounting",
        "beegfs": "beegfs",
        "storage": "shared-storage",
        "apptainer": "apptainer",
    }
)
#: Services that run, and those that have done what they were started for.
ACTIVE = Fact(
    "active services", ("systemctl", "list-units", "--type=service", "--state=active", "--output=json"), units
)


@dataclass(frozen=True, slots=True)
class Doing:
    """What a machine does: its active services, and what others reach of it, as ``tcp 22 of sshd``."""

    services: frozenset[str]
    open: frozenset[str]
    state: str
    failed: tuple[str, ...]

    def lacks(self, before: Doing) -> Iterator[str]:
        """What is not as it was, or not well."""
        yield from (f"{unit} failed" for unit in self.failed)
        yield from (f"{unit} is not active" for unit in sorted(before.services - self.services))
        yield from (f"nothing listens on {one}" for one in sorted(before.open - self.open))
        if self.state != "running":
            yield f"systemd says {self.state!r}"

    def __str__(self) -> str:
        return f"systemd {self.state}; {', '.join(sorted(self.open))}; {', '.join(sorted(self.services))}"


def doing(node: Node) -> Doing:
    """Look at a machine, in one round trip."""
    found = read(node, (ACTIVE, LISTENING, STATE, FAILED))
    listeners = [one for one in LISTENING.of(found[LISTENING]) if not one.local]
    return Doing(
        # Instances of templates and what runs for a session come and go.
        frozenset(unit for unit in ACTIVE.of(found[ACTIVE]) if "@" not in unit and not unit.startswith("run-")),
        frozenset(
            f"{one.protocol} {one.port} of {', '.join(sorted(one.programs)) or 'the kernel'}" for one in listeners
        ),
        STATE.of(found[STATE]),
        FAILED.of(found[FAILED]),
    )


def services_of(config: ClusterConfig) -> tuple[str, ...]:
    """Our services that the configuration has."""
    absent = declared_absent(config)
    return tuple(name for name, capability in SERVICES.items() if capability not in absent)


def not_back(node: Node, before: Doing, services: Mapping[str, Service]) -> tuple[str, ...]:
    """What is not back yet after a machine was switched on: on itself, and of the cluster's services."""
    try:
        own = tuple(doing(node).lacks(before))
        return own or tuple(f"{name}: {fault}" for name, one in services.items() for fault in one.faults())
    except AiHowError as error:
        return (str(error).splitlines()[0],)
