"""A driver that can't be had on this host, for runs that make no machines: plans, and checks of what the YAML says."""

# ruff: noqa: ARG002  the methods have the signatures of the Driver protocol

from __future__ import annotations

from collections.abc import Sequence

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import Driver, HostFacts, Refuses
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.lease import JOURNAL
from pytest_ai_how.lease.state import cluster_state
from pytest_ai_how.transport.protocol import Transport


class AbsentDriver:
    """Stands for the driver ``name``, and raises ``why`` wherever machines are asked for."""

    def __init__(self, name: str, why: AiHowError) -> None:
        self.name, self.why = name, why

    def check(self, config: ClusterConfig) -> None:
        """Refuse."""
        raise self.why

    def facts(self) -> HostFacts:
        """That it is absent."""
        return HostFacts(self.name, ("it can't make machines here",))

    def fingerprint(self, config: ClusterConfig) -> str:
        """A fingerprint that no cluster has. Where one is up, of which nobody can tell what it is, it refuses."""
        if Journal(cluster_state(config.name) / JOURNAL).pending():
            raise self.why
        return "no driver"

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Refuse."""
        raise self.why

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        """Refuse."""
        raise self.why

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        """None were made."""
        return ()


def refusals(driver: Driver, config: ClusterConfig) -> Sequence[AiHowError]:
    """Why ``driver`` can't make the machines here: every reason where it can tell them all, else the first."""
    if isinstance(driver, Refuses):
        return driver.refusals(config)
    try:
        driver.check(config)
    except AiHowError as error:
        return (error,)
    return ()
