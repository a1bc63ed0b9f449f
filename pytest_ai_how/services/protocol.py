"""What every piece of software on a cluster offers to the suites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


class Service(Protocol):
    """Software on a cluster. ``needs`` names the services that must be ready before this one."""

    name: str
    needs: tuple[str, ...]

    def faults(self) -> tuple[str, ...]:
        """Why it is not ready, one line a reason with the machine first; empty when it is ready. Never repairs."""


@runtime_checkable
class Filled(Protocol):
    """A service that is ready when what the driver deploys lies on its storage."""

    deployed: bool


@runtime_checkable
class Installed(Protocol):
    """A service without a daemon: on machines that stood still and continue, it is as ready as it was."""

    installed: Literal[True]


@runtime_checkable
class Explains(Protocol):
    """A service that can tell what lies behind its faults: asked now and then while it is waited for."""

    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with its daemons; empty when nothing is seen."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What lies behind faults, in one line with the machine first. ``final``: no waiting mends it."""

    text: str
    final: bool = False
