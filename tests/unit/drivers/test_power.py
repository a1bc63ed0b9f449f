"""Switching one nspawn machine, without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.drivers.nspawn import NspawnDriver, power
from pytest_ai_how.drivers.protocol import Power
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import Process
from pytest_ai_how.lease.state import cluster_state

from .sample import config


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def driver() -> NspawnDriver:
    return NspawnDriver(Path, lambda name: name)


def test_the_driver_can_switch_machines() -> None:
    assert isinstance(driver(), Power)


def test_a_machine_that_was_never_made_is_absent_and_not_switched() -> None:
    found = driver()
    assert found.state(config(), "node01") == "absent"
    with pytest.raises(
        ProvisionError, match=r"^node01: there is no such machine: nothing is mounted at .*/node01/root"
    ):
        found.stop(config(), "node01")
    with pytest.raises(
        ProvisionError, match=r"(?s)^node01: there is no such machine.*pytest-ai-how down --cluster lab"
    ):
        found.start(config(), "node01")
    assert found.consoles(config()) == {}


def test_an_unknown_machine_is_named_with_the_known() -> None:
    with pytest.raises(
        ProvisionError, match=r"^node09: is no machine of cluster 'lab'\n  expected: one of controller,"
    ):
        driver().state(config(), "node09")


def test_a_running_machine_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "marked", lambda mark: (Process(7, 7, 1, "sh"),))
    with pytest.raises(ProvisionError, match=r"^node01: can't be switched on: is running"):
        driver().start(config(), "node01")


def test_a_machine_that_the_journal_does_not_know_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    root = cluster_state("lab") / "machines/nodes/node01/root"
    monkeypatch.setattr(power, "mounts_below", lambda path: (str(root),))
    with pytest.raises(ProvisionError, match=r"^node01: there is no such machine"):
        power.switch_on(power.machine(config(), "node01"), Path("/shared"), Journal(cluster_state("lab") / "journal"))


def test_the_init_is_the_child_of_nspawn(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (Process(7, 7, 1, "sh"), Process(8, 8, 7, "systemd-nspawn"), Process(9, 9, 8, "systemd"))
    monkeypatch.setattr(power, "marked", lambda mark: found)
    assert power.inits(power.machine(config(), "node01")) == [found[2]]


def test_consoles_are_of_machines_that_were_started() -> None:
    folder = cluster_state("lab") / "machines/nodes/node01"
    folder.mkdir(parents=True)
    (folder / "console.log").touch()
    assert driver().consoles(config()) == {"node01": folder / "console.log"}
