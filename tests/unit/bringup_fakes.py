"""A driver, services and a listener that the tests of the bring-up pretend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.services.protocol import Service
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from pytest_ai_how.transport.protocol import Transport

BOOTED = "systemctl is-system-running --wait"


class FakeDriver:
    """Makes folders for machines; they answer over FakeTransport with what ``answers`` says."""

    name = "fake"

    def __init__(self, state: Path) -> None:
        self.state = state
        self.print = "print1"
        self.ups = 0
        self.refusal: AiHowError | None = None
        self.answers: dict[str, list[str | Result | Exception]] = {}
        self.transports = 0
        self.made: dict[str, FakeTransport] = {}
        self.booted: list[str | Result | Exception] = ["running\n"]

    def check(self, config: ClusterConfig) -> None:
        if self.refusal:
            raise self.refusal

    def facts(self) -> HostFacts:
        return HostFacts(self.name)

    def fingerprint(self, config: ClusterConfig) -> str:
        return self.print

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        self.ups += 1
        journal.intend("directory", path=str(self.state / "machines"))
        (self.state / "machines").mkdir()

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        self.transports += 1
        says = {"uname -n": self.answers.get(node, [f"{node}\n"]), BOOTED: self.booted}
        self.made[node] = FakeTransport(node, says)
        return self.made[node]


class FakeService:
    """Gives the lists of ``script`` one after the other, then the last for ever."""

    def __init__(self, name: str, needs: tuple[str, ...], script: list[tuple[str, ...] | Exception]) -> None:
        self.name, self.needs, self.script, self.asked = name, needs, script, 0

    def faults(self) -> tuple[str, ...]:
        said = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        if isinstance(said, Exception):
            raise said
        return said


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, subject: str, text: str) -> None:
        self.lines.append(f"{subject}: {text}")


def giving(service: Service) -> Callable[[Cluster], Service]:
    """A factory that has made ``service`` already."""
    return lambda cluster: service
