"""What every piece of software on a cluster offers to the suites."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


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
class Explains(Protocol):
    """A service that can tell what lies behind its faults: asked once, when waiting for it was in vain."""

    def causes(self) -> tuple[str, ...]:
        """What is wrong with its daemons, one line a reason with the machine first; empty when nothing is seen."""
