"""Switching one machine off and on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.drivers.libvirt import build, names
from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver, labels_for
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.protocol import Paced
from pytest_ai_how.errors import ProvisionError, TransportError
from pytest_ai_how.lease.journal import Journal

from .fakes import CRASHED, OFF, RUNNING, SHUTDOWN, FakeDomain, FakeLibvirt
from .test_undo import xml
from .test_xml import config


@pytest.fixture
def libvirt() -> FakeLibvirt:
    return FakeLibvirt()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    cluster = config()
    return Machine(cluster, cluster.nodes[1], tmp_path)


def made(libvirt: FakeLibvirt, *states: int, mark: str = "pytest-ai-how:lab/node01") -> FakeDomain:
    found = libvirt.defineXML(xml("domain", "aihow-lab-node01", names.machine_uuid("lab", "node01"), mark))
    found.states = list(states)
    return found


@pytest.mark.parametrize(
    ("state", "said"), [(RUNNING, "running"), (SHUTDOWN, "running"), (OFF, "off"), (CRASHED, "off"), (0, "off")]
)
def test_states(libvirt: FakeLibvirt, machine: Machine, state: int, said: str) -> None:
    assert machine.state(libvirt) == "absent"
    made(libvirt, state)
    assert machine.state(libvirt) == said


def test_a_domain_of_the_same_uuid_that_is_not_ours_is_absent(libvirt: FakeLibvirt, machine: Machine) -> None:
    theirs = made(libvirt, RUNNING, mark="")
    assert machine.state(libvirt) == "absent"
    with pytest.raises(ProvisionError) as caught:
        machine.switch_off(libvirt, lambda: None, force=True, within=1.0)
    assert str(caught.value).startswith("node01: there is no such machine: libvirt knows no domain aihow-lab-node01")
    assert theirs.calls == []


def test_one_that_is_asked_and_goes_is_not_cut_off(libvirt: FakeLibvirt, machine: Machine) -> None:
    domain, asked = made(libvirt, RUNNING, SHUTDOWN, OFF), []
    machine.switch_off(libvirt, lambda: asked.append("init"), force=False, within=5.0)
    assert asked == ["init"]
    assert domain.calls == []


def test_one_that_does_not_go_is_cut_off(
    libvirt: FakeLibvirt, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    domain = made(libvirt, RUNNING)
    machine.switch_off(libvirt, lambda: None, force=False, within=0.05)
    assert domain.calls == ["destroy"]
    assert "node01: did not power off within 0.05 s and was cut off" in caplog.text


def test_force_cuts_at_once(libvirt: FakeLibvirt, machine: Machine) -> None:
    domain, asked = made(libvirt, RUNNING), []
    machine.switch_off(libvirt, lambda: asked.append("init"), force=True, within=60.0)
    assert (domain.calls, asked) == (["destroy"], [])
    machine.switch_off(libvirt, lambda: asked.append("init"), force=True, within=60.0)
    assert domain.calls == ["destroy"]


def test_one_that_ssh_does_not_reach_gets_its_power_button_pressed(libvirt: FakeLibvirt, machine: Machine) -> None:
    domain = made(libvirt, RUNNING, OFF)

    def unreachable() -> None:
        raise TransportError("node01", "connection refused")

    machine.switch_off(libvirt, unreachable, force=False, within=5.0)
    assert domain.calls == ["shutdown"]


def test_one_that_survives_the_cut_is_named(
    libvirt: FakeLibvirt, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_ai_how.drivers.libvirt.machine._CUT_OFF", 0.05)
    monkeypatch.setattr(FakeDomain, "destroy", lambda self: None)
    made(libvirt, RUNNING)
    with pytest.raises(ProvisionError, match=r"^node01: can't be switched off: libvirt says state 1 0\.05 s after"):
        machine.switch_off(libvirt, lambda: None, force=True, within=1.0)


def test_switching_on_is_written_down_once_and_before(
    libvirt: FakeLibvirt, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    domain, journal = made(libvirt, OFF), Journal(tmp_path / "journal")
    monkeypatch.setattr(
        FakeDomain, "create", lambda self: self.calls.append(f"create after {len(journal.pending())} entries")
    )
    build.switch_on(machine, libvirt, journal)
    build.switch_on(machine, libvirt, journal)
    assert domain.calls == ["create after 1 entries"] * 2
    [entry] = journal.pending()
    assert (entry.kind, entry.data) == ("process", {"cookie": "pytest-ai-how:lab/node01"})


def test_one_that_runs_is_not_started_again(libvirt: FakeLibvirt, machine: Machine) -> None:
    made(libvirt, RUNNING)
    with pytest.raises(ProvisionError, match="^node01: can't be switched on: is running"):
        machine.switch_on(libvirt)


@pytest.mark.parametrize(("model", "models"), [("none", ["dac"]), ("apparmor", ["dac", "apparmor"]), ("", ["dac"])])
def test_machines_of_another_daemon_run_as_who_owns_their_files(model: str, models: list[str]) -> None:
    assert [label.model for label in labels_for(FakeLibvirt(model=model))] == models


@pytest.mark.parametrize(("no_kvm", "pace"), [("", 1.0), ("/dev/kvm does not open", 4.0)])
def test_emulated_machines_are_given_more_time(no_kvm: str, pace: float) -> None:
    driver = LibvirtDriver(lambda name, packages: Path("/"), lambda name, packages: "", lambda: no_kvm)
    assert isinstance(driver, Paced)
    assert driver.pace == pace
