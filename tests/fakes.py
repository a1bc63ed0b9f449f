"""Clusters of pretended machines for the unit tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import HostFacts, State
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.node import Node
from pytest_ai_how.transport.command import WRITE
from pytest_ai_how.transport.fake import Answers, FakeTransport, Matcher
from pytest_ai_how.transport.protocol import Transport

Script = Mapping[Matcher, Answers] | Sequence[tuple[Matcher, Answers]]
_WRITES = ("sh", "-c", WRITE)
#: For a machine that lets a user write files (``Node.write(…, user=…)``); :func:`written` tells which.
WRITES: tuple[Matcher, Answers] = (_WRITES, "")


def fake_cluster(
    scripts: Mapping[str, Script], *, config: ClusterConfig | None = None, files: Mapping[str, bytes] | None = None
) -> Cluster:
    """A cluster of ``configs/local.yaml`` whose machines answer from ``scripts`` (by node name; '*' for the others).

    ``files`` lie on every machine.
    """
    config = config or load_config("local")
    nodes = [
        Node(node, FakeTransport(node.name, scripts.get(node.name, scripts.get("*", ())), dict(files or {})))
        for node in config.nodes
    ]
    return Cluster(config, nodes)


def written(transport: Transport) -> dict[str, str]:
    """The files that a user wrote on a pretended machine, by path."""
    assert isinstance(transport, FakeTransport)
    calls = [call for call in transport.calls if call.argv[:3] == _WRITES]
    return {call.argv[5]: call.input.decode(errors="replace") for call in calls}


def once_all_ask(count: int, said: str) -> Callable[[tuple[str, ...]], str]:
    """An answer that no machine gives before ``count`` are asked; whoever asks one after the other gets none."""
    all_here = threading.Barrier(count, timeout=10)

    def answer(argv: tuple[str, ...]) -> str:
        all_here.wait()
        return said

    return answer


class Switchboard:
    """A driver of pretended machines that can be switched: ``done`` is what it was asked, ``states`` what they are in.

    What is asked of a machine in ``stuck`` is not done.
    """

    name = "pretended"

    def __init__(self, states: Mapping[str, State], stuck: Sequence[str] = (), folder: Path = Path("/nowhere")) -> None:
        self.states, self.stuck, self.folder = dict(states), frozenset(stuck), folder
        self.done: list[tuple[str, ...]] = []

    def state(self, config: ClusterConfig, node: str) -> State:
        return self.states.get(node, "absent")

    def stop(self, config: ClusterConfig, node: str, *, force: bool = False, within: float = 60.0) -> None:
        self._switch(node, "off", "cut" if force else "stop")

    def start(self, config: ClusterConfig, node: str) -> None:
        self._switch(node, "running", "start")

    def consoles(self, config: ClusterConfig) -> Mapping[str, Path]:
        return {node.name: self.folder / f"{node.name}.log" for node in config.nodes}

    def _switch(self, node: str, state: State, verb: str) -> None:
        self.done.append((verb, node))
        if node in self.stuck:
            raise ProvisionError(node, f"would not {verb}")
        self.states[node] = state

    def check(self, config: ClusterConfig) -> None:
        """All is well."""

    def facts(self) -> HostFacts:
        return HostFacts(self.name)

    def fingerprint(self, config: ClusterConfig) -> str:
        return config.name

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        self.states.update({node.name: "running" for node in config.nodes})

    def transport(self, config: ClusterConfig, node: str) -> FakeTransport:
        return FakeTransport(node, {})

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        return ()
