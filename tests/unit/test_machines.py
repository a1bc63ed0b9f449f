"""Switching machines: waited for, put back, and never those of others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_ai_how import machines as module
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.drivers.protocol import State
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import AiHowError, DeadlineExceeded, HostKeyError, ProvisionError, TransportError
from pytest_ai_how.machines import Machines
from pytest_ai_how.node import Node
from pytest_ai_how.transport.fake import Answers, FakeTransport
from tests.fakes import Switchboard

RUNNING: Mapping[str, State] = {"controller": "running", "node01": "running", "node02": "off"}


class Counting(FakeTransport):
    """Counts how often its connection was dropped."""

    drops = 0

    def close(self) -> None:
        self.drops += 1


def cluster(answers: Answers = "node01\n") -> Cluster:
    config = load_config("local")
    return Cluster(config, [Node(node, Counting(node.name, {"uname -n": answers})) for node in config.nodes])


def board() -> Switchboard:
    return Switchboard(RUNNING)


def test_a_stop_and_a_start() -> None:
    power, made = board(), cluster([TransportError("node01", "refused"), "node01\n"])
    found = Machines(power, made)
    found.stop("node01")
    assert found.state("node01") == "off"
    assert made["node01"].transport.drops == 1  # type: ignore[attr-defined]  # a Counting
    assert found.start("node01") > 0
    assert power.done == [("stop", "node01"), ("start", "node01")]
    assert [call.argv for call in made["node01"].transport.calls] == [("uname", "-n")] * 2  # type: ignore[attr-defined]  # a fake
    found.restart("node01", force=True)
    assert power.done[2:] == [("cut", "node01"), ("start", "node01")]


def test_a_machine_that_does_not_answer_names_its_console() -> None:
    found = Machines(board(), cluster(TransportError("node01", "no route to it")))
    with pytest.raises(DeadlineExceeded) as caught:
        found.start("node01", within=0.05)
    assert str(caught.value) == (
        "node01: not answering over ssh within 0.05 s; last seen: no route to it\n"
        "  expected: answering over ssh\n  do: read /nowhere/node01.log"
    )


def test_another_host_key_is_not_waited_for() -> None:
    found = Machines(board(), cluster(HostKeyError("node01", "another key")))
    with pytest.raises(HostKeyError):
        found.start("node01")


def test_all_is_put_back_as_it_was() -> None:
    power = board()
    found = Machines(power, cluster())
    found.stop("node01")
    found.start("node02")
    found.as_found()
    assert power.states == RUNNING
    found.as_found()
    assert len(power.done) == 4


def test_what_cannot_be_put_back_does_not_keep_the_rest_from_it() -> None:
    power = board()
    found = Machines(power, cluster())
    found.stop("node01")
    found.stop("controller")
    power.stuck = frozenset({"node01"})
    with pytest.raises(ExceptionGroup, match=r"^node01: would not start \(1 machines are not as they were\)") as caught:
        found.as_found()
    assert [type(error) for error in caught.value.exceptions] == [ProvisionError]
    assert power.states["controller"] == "running"


@pytest.mark.parametrize(
    ("driver", "why", "message"),
    [
        (SshDriver(), "", "cluster 'local': its machines are not switched off or on: driver ssh has no means to"),
        (board(), "driver is ssh in cluster 'local'", "off or on: driver is ssh in cluster 'local'"),
    ],
)
def test_machines_of_others_are_refused(driver: Switchboard, why: str, message: str) -> None:
    with pytest.raises(AiHowError, match=message) as caught:
        Machines(driver, cluster(), why)
    assert caught.value.cure == "mark the test with @pytest.mark.requires('owned')"


def test_the_wait_is_longer_than_an_emulated_boot() -> None:
    assert module.ANSWERS_WITHIN >= 120
