import re

import pytest

from pytest_ai_how.services import readiness
from pytest_ai_how.services.munge import Munge
from pytest_ai_how.services.protocol import Cause
from pytest_ai_how.shell import Result
from tests.fakes import fake_cluster

# MUNGE 0.5.16
CREDENTIAL = "MUNGE:AwQFAAAKm2vSxAaR:\n"
DECODED = "STATUS:          Success (0)\nENCODE_HOST:     controller (10.78.0.10)\nUID:             root (0)\n"
INVALID = Result((), 17, stderr="unmunge: Error: Invalid credential\n")
STOPPED = Result((), 6, stderr='munge: Error: Failed to connect to "/run/munge/munge.socket.2": No such file\n')


def test_one_key_on_all_machines_has_no_fault() -> None:
    cluster = fake_cluster({"*": {"munge": CREDENTIAL, "unmunge": DECODED}})
    assert Munge(cluster).faults() == ()
    assert all(node.transport.calls[-1].input == CREDENTIAL.encode() for node in cluster.nodes)


def test_another_key_on_one_machine_names_it() -> None:
    cluster = fake_cluster({"*": {"munge": CREDENTIAL, "unmunge": DECODED}, "node02": {"unmunge": INVALID}})
    said = "unmunge of controller's credential exited with 17: unmunge: Error: Invalid credential"
    assert Munge(cluster).faults() == (f"node02: {said}",)


def test_stopped_munged_on_the_controller_is_the_one_fault() -> None:
    (fault,) = Munge(fake_cluster({"*": {"munge": STOPPED}})).faults()
    assert re.match(r"controller: munge exited with 6: munge: Error: Failed to connect", fault)


def test_what_lies_behind_it_is_asked_of_machines_that_we_made(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nMainPID=0\n"
    monkeypatch.setattr(readiness, "read", lambda _, wanted: {one: Result((), 0, unit) for one in wanted})
    cluster = fake_cluster({})
    told = "unit munge.service is failed (failed), result exit-code, expected active"
    assert Munge(cluster).causes()[0] == Cause(f"controller: {told}", final=True)
    assert len(Munge(cluster).causes()) == 3
    site = fake_cluster({}, config=cluster.config.model_copy(update={"driver": "ssh"}))
    assert Munge(site).causes() == ()


def test_success_without_its_word_is_a_fault() -> None:
    cluster = fake_cluster({"*": {"munge": CREDENTIAL, "unmunge": ""}})
    assert len(Munge(cluster).faults()) == 3
