"""The check of reboots goes red on machines that come back without something, and names it; parsers read samples."""

from __future__ import annotations

import doctest
import json
from types import ModuleType
from typing import Any

import pytest

from pytest_ai_how import listening
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import TransportError
from pytest_ai_how.limits import Limits, load_limits
from pytest_ai_how.machines import Machines
from pytest_ai_how.report.evidence import Evidence
from suites.phase1 import _facts, _mesh, _reboot, _system, _throughput
from suites.phase1 import test_reboot as reboot
from suites.phase1._reboot import Doing, doing, not_back, services_of
from tests.fakes import Switchboard, fake_cluster

from .phase1_fakes import SOCKETS, bringup, measure
from .test_phase1_mesh import Wire

BEFORE = Doing(frozenset({"slurmd.service", "ssh.service"}), frozenset({"tcp 22 of sshd"}), "running", ())


class Service:
    """A service with the faults that it is told."""

    def __init__(self, *faults: str) -> None:
        self.name, self.needs, self.told = "slurm", (), faults

    def faults(self) -> tuple[str, ...]:
        return self.told


@pytest.mark.seen_to_fail("INF-16")
@pytest.mark.parametrize(
    ("after", "service", "says"),
    [
        (BEFORE, Service("node01: is DOWN"), "slurm: node01: is DOWN"),
        (Doing(frozenset({"ssh.service"}), BEFORE.open, "running", ()), Service(), "slurmd.service is not active"),
        (Doing(BEFORE.services, frozenset(), "running", ()), Service(), "nothing listens on tcp 22 of sshd"),
        (Doing(BEFORE.services, BEFORE.open, "degraded", ("a.service",)), Service(), "a.service failed"),
        (Doing(BEFORE.services, BEFORE.open, "starting", ()), Service(), "systemd says 'starting'"),
    ],
)
def test_a_machine_that_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch, after: Doing, service: Service, says: str
) -> None:
    cluster = fake_cluster({"*": {"uname": "node\n"}})
    board = Switchboard(dict.fromkeys(cluster.all.names, "running"))

    def check(then: Doing, one: Service) -> None:
        seen = iter((BEFORE, *[then] * 10_000))
        monkeypatch.setattr(reboot, "doing", lambda node: next(seen))
        monkeypatch.setattr(_reboot, "doing", lambda node: next(seen))
        made: Any = bringup(board, cluster, slurm=one)
        reboot.test_reboot(made, Machines(board, cluster), Evidence(), measure(), short_limits())

    with pytest.raises(AssertionError, match=rf"(?s)^controller: not back with all services within 0\.2 s.*{says}"):
        check(after, service)
    assert board.done == [("stop", "controller"), ("start", "controller")]


def test_each_machine_is_switched_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = fake_cluster({"*": {"uname": "node\n"}})
    board = Switchboard(dict.fromkeys(cluster.all.names, "running"))
    monkeypatch.setattr(reboot, "doing", lambda node: BEFORE)
    monkeypatch.setattr(_reboot, "doing", lambda node: BEFORE)
    measured, made = measure(), bringup(board, cluster, slurm=Service())
    reboot.test_reboot(made, Machines(board, cluster), Evidence(), measured, short_limits())
    assert [one.node for one in measured.items] == ["controller", "node01", "node02"]


@pytest.mark.seen_to_fail("INF-16")
def test_a_machine_that_does_nothing_can_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = fake_cluster({})
    board = Switchboard(dict.fromkeys(cluster.all.names, "running"))
    monkeypatch.setattr(reboot, "doing", lambda node: Doing(frozenset(), frozenset(), "running", ()))
    with pytest.raises(AssertionError, match="^controller: no service is active; nothing could be lost"):
        reboot.test_reboot(bringup(board, cluster), Machines(board, cluster), Evidence(), measure(), short_limits())
    assert board.done == []


def short_limits() -> Limits:
    """The limits that ship, with a reboot that is to take a moment."""
    shipped = load_limits("local")
    limit = shipped["node.reboot"]
    gate = limit.gate.model_copy(update={"max": 0.2}) if limit.gate else None
    changed = {**shipped, "node.reboot": limit.model_copy(update={"gate": gate})}
    return Limits("local", shipped.file, changed, {name: shipped.where(name) for name in shipped})


def test_what_a_machine_does_is_told_in_one_round_trip() -> None:
    units = json.dumps([{"unit": name} for name in ("ssh.service", "user@0.service", "run-u7.service")])

    def answer(script: str) -> Any:
        from .test_phase1_mesh import answering

        def said(name: str, argv: list[str]) -> tuple[int, str, str]:
            told = {"ss": SOCKETS["node01"], "is-system-running": "running", "--failed": "[]"}
            return 0, next((text for word, text in told.items() if word in argv), units), ""

        return answering("node01", said)(script)

    node = fake_cluster({})["node01"]
    node.transport = Wire("node01", answer)  # type: ignore[assignment]
    seen = doing(node)
    assert seen == Doing(frozenset({"ssh.service"}), frozenset({"tcp 22 of sshd", "tcp 6818 of slurmd"}), "running", ())
    assert "tcp 6818 of slurmd" in str(seen)


def test_a_machine_that_does_not_answer_yet_is_not_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(node: object) -> Doing:
        raise TransportError("node01", "no ssh connection")

    monkeypatch.setattr(_reboot, "doing", silent)
    assert not_back(fake_cluster({})["node01"], BEFORE, {}) == ("node01: no ssh connection",)


def test_services_are_those_that_the_cluster_has() -> None:
    assert services_of(load_config("local")) == ("munge", "slurm", "accounting", "storage", "apptainer")
    assert services_of(load_config("local").model_copy(update={"slurm": None})) == ("storage", "apptainer")


@pytest.mark.parametrize("module", [_facts, _mesh, _system, _throughput, listening], ids=lambda one: one.__name__)
def test_samples_are_read_as_they_say(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert found.failed == 0
