"""Why a daemon is not ready is told with machine and cause, from what systemd, ss and ps said of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.errors import DeadlineExceeded, FactError, TransportError
from pytest_ai_how.facts import Fact
from pytest_ai_how.node import Node
from pytest_ai_how.services import readiness
from pytest_ai_how.services.accounting import Accounting
from pytest_ai_how.services.protocol import Cause
from pytest_ai_how.services.readiness import LONGEST, Daemon, await_ready, causes, family, faults
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from tests.fakes import fake_cluster

NODE = Node(load_config("local", environ={}).nodes[0], FakeTransport("controller", {}))
# systemd 257, iproute2 6.15, procps 4.0 on a controller
ACTIVE = "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nMainPID=99\n"
FAILED = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nMainPID=0\n"
ABSENT = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nResult=success\nMainPID=0\n"
LISTENING = (
    'tcp LISTEN 0 4096 0.0.0.0:6817 0.0.0.0:* users:(("slurmctld",pid=99,fd=6))\n'
    'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=41,fd=6))\n'
    'udp UNCONN 0 0 0.0.0.0:6818 0.0.0.0:* users:(("other",pid=7,fd=6))\n'
)
PARENTS = "1 0\n41 1\n99 1\n100 99\n812 1\n"


def say(
    monkeypatch: pytest.MonkeyPatch, unit: str = ACTIVE, ports: str = LISTENING, probe: Result | None = None
) -> None:
    """What the machine says to what is asked."""

    def read(node: Node, wanted: Iterable[Fact[Any]]) -> dict[Fact[Any], Result]:
        said = {"systemctl": unit, "ss": ports, "ps": PARENTS}
        return {
            fact: Result(fact.argv, 0, said[fact.argv[0]], node=node.name)
            if fact.argv[0] in said
            else (probe or Result(fact.argv, 0))
            for fact in wanted
        }

    monkeypatch.setattr(readiness, "read", read)


CTLD = Daemon("slurmctld.service", 6817, ("scontrol", "ping"))


def test_a_daemon_that_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch)
    assert faults(NODE, CTLD) == ()
    await_ready(NODE, CTLD, 0.0)


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        (FAILED, "unit slurmctld.service is failed (failed), result exit-code, expected active"),
        (ABSENT, "unit slurmctld.service is not-found, expected it to be installed"),
    ],
)
def test_a_unit_that_is_not_active(unit: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, unit)
    assert faults(NODE, Daemon("slurmctld.service")) == (f"controller: {reason}",)


@pytest.mark.parametrize(
    ("port", "ports", "reason"),
    [
        (6818, LISTENING, "nothing listens on port 6818, expected slurmctld.service"),
        (22, LISTENING, "port 22 is taken by sshd (process 41), expected slurmctld.service"),
        (
            6817,
            LISTENING.replace("pid=99", "pid=812").replace("slurmctld", "nc"),
            "port 6817 is taken by nc (process 812)",
        ),
    ],
)
def test_a_port_that_is_closed_or_taken(port: int, ports: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, ports=ports)
    [said] = faults(NODE, Daemon("slurmctld.service", port))
    assert said.startswith(f"controller: {reason}")


@pytest.mark.parametrize("holder", ["pid=100", "pid=1", ""])
def test_a_port_may_be_held_by_a_child_by_systemd_or_by_the_kernel(
    holder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = f'users:(("worker",{holder},fd=6))' if holder else ""
    say(monkeypatch, ports=f"tcp LISTEN 0 4096 0.0.0.0:6817 0.0.0.0:* {users}\n")
    assert faults(NODE, Daemon("slurmctld.service", 6817)) == ()


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (
            Result((), 1, "Slurmctld(primary) at controller is DOWN\n"),
            "exited with 1: Slurmctld(primary) at controller is",
        ),
        (Result((), 124), "did not end within 5 s: no output"),
        (Result((), 127, stderr="timeout: failed to run command\n"), "exited with 127: timeout: failed to run command"),
    ],
)
def test_a_probe_that_fails(result: Result, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, probe=result)
    [said] = faults(NODE, CTLD)
    assert said.startswith(f"controller: `scontrol ping` {reason}")
    assert said.endswith(", expected 0")


def test_a_wait_in_vain_tells_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, FAILED, LISTENING.replace("pid=99", "pid=812").replace("slurmctld", "nc"))
    with pytest.raises(DeadlineExceeded) as caught:
        await_ready(NODE, CTLD, 0.0)
    assert str(caught.value).startswith(
        "controller: not slurmctld.service ready within 0 s; last seen: port 6817 is taken by nc (process 812), "
        "expected slurmctld.service; unit slurmctld.service is failed (failed), result exit-code, expected active\n"
    )
    assert "do: read its log: journalctl --unit=slurmctld.service on controller" in str(caught.value)


def test_no_wait_is_longer_than_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def noted(seconds: float) -> Deadline:
        waited.append(seconds)
        return Deadline(0.0)

    say(monkeypatch, FAILED)
    monkeypatch.setattr(readiness, "Deadline", noted)
    with pytest.raises(DeadlineExceeded):
        await_ready(NODE, CTLD, 900.0)
    assert waited == [LONGEST] == [30.0]


def test_a_machine_that_does_not_answer_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(node: Node, wanted: Iterable[Fact[Any]]) -> dict[Fact[Any], Result]:
        raise TransportError(node.name, "refused the connection")

    monkeypatch.setattr(readiness, "read", silent)
    with pytest.raises(DeadlineExceeded, match="last seen: refused the connection"):
        await_ready(NODE, CTLD, 0.0)
    say(monkeypatch, unit="Failed to connect to bus\n")
    with pytest.raises(FactError, match=r"controller: unit slurmctld\.service is not known"):
        faults(NODE, CTLD)


def test_a_port_that_is_taken_is_told_before_what_comes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, FAILED, LISTENING.replace("pid=99", "pid=812").replace("slurmctld", "nc"))
    told = causes([(NODE, Daemon("slurmd.service")), (NODE, Daemon("slurmctld.service", 6817))])
    assert told[0] == Cause(
        "controller: port 6817 is taken by nc (process 812), expected slurmctld.service", final=True
    )
    assert [reason.text.split(", ")[0] for reason in told[1:]] == [
        "controller: unit slurmd.service is failed (failed)",
        "controller: unit slurmctld.service is failed (failed)",
    ]


def test_a_machine_that_can_not_be_asked_has_no_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, unit="Failed to connect to bus\n")
    assert causes([(NODE, CTLD)]) == ()


def test_nobody_descends_from_no_process() -> None:
    assert family(0, {1: 0}) == frozenset()


def test_slurm_and_accounting_name_their_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, FAILED, LISTENING.replace("pid=99", "pid=812").replace("slurmctld", "nc"))
    cluster = fake_cluster({})
    told = [cause.text for cause in Slurm(cluster).causes()]
    assert told[0] == "controller: port 6817 is taken by nc (process 812), expected slurmctld.service"
    assert "node02: nothing listens on port 6818, expected slurmd.service" in told
    assert Cause("controller: nothing listens on port 6819, expected slurmdbd.service") in Accounting(cluster).causes()
    site = fake_cluster({}, config=cluster.config.model_copy(update={"driver": "ssh"}))
    assert Slurm(site).causes() == Accounting(site).causes() == (), "what others run, others know"
