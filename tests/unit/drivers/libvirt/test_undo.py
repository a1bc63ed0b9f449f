"""Undoing in libvirt: only what is ours, also when the daemon is dead."""

from __future__ import annotations

import pytest

from pytest_ai_how.drivers.libvirt import api, daemon, names
from pytest_ai_how.drivers.libvirt.undo import Domains, Networks, found_in_libvirt, undoer
from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.journal import Entry
from pytest_ai_how.lease.undoers import generic_undoers

from .fakes import RUNNING, FakeDomain, FakeLibvirt, LibvirtError, connect

DOMAIN = {"cluster": "lab", "node": "node01", "daemon": daemon.PRIVATE}
NETWORK = {"cluster": "lab", "daemon": daemon.PRIVATE}


def xml(kind: str, name: str, uuid: str, mark: str) -> str:
    owner = f"<o:owner xmlns:o='{names.NAMESPACE}' mark='{mark}'/>" if mark else ""
    return f"<{kind}><name>{name}</name><uuid>{uuid}</uuid><metadata>{owner}</metadata></{kind}>"


@pytest.fixture
def libvirt(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    found = FakeLibvirt()
    connect(monkeypatch, found)
    return found


def machine(libvirt: FakeLibvirt, mark: str = "pytest-ai-how:lab/node01") -> FakeDomain:
    found = libvirt.defineXML(xml("domain", "aihow-lab-node01", names.machine_uuid("lab", "node01"), mark))
    found.states = [RUNNING]
    return found


def network(libvirt: FakeLibvirt, mark: str = "pytest-ai-how:lab") -> FakeDomain:
    found = libvirt.networkDefineXML(xml("network", "aihow-lab", names.network_uuid("lab"), mark))
    found.states = [RUNNING]
    return found


def test_a_running_machine_is_cut_off_and_forgotten(libvirt: FakeLibvirt) -> None:
    found, undo = machine(libvirt), Domains()
    assert list(undo.remains(DOMAIN)) == ["domain aihow-lab-node01 in libvirt (private)"]
    undo.undo(DOMAIN, 5.0)
    assert found.calls == ["destroy", "undefine 7"]
    assert list(undo.remains(DOMAIN)) == []
    undo.undo(DOMAIN, 5.0)


def test_a_machine_that_ends_meanwhile_is_no_error(libvirt: FakeLibvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(libvirt)
    monkeypatch.setattr(found, "destroy", lambda: (_ for _ in ()).throw(LibvirtError(55, "domain is not running")))
    Domains().undo(DOMAIN, 5.0)
    assert libvirt.domains == []


@pytest.mark.parametrize("mark", ["", "pytest-ai-how:other/node01", "pytest-ai-how:lab/node010"])
def test_what_is_not_ours_is_left_alone(libvirt: FakeLibvirt, mark: str) -> None:
    theirs, net = machine(libvirt, mark), network(libvirt, mark.partition("/")[0].replace("lab", "lab0"))
    for undo, data in ((Domains(), DOMAIN), (Networks(), NETWORK)):
        undo.undo(data, 5.0)  # type: ignore[attr-defined]  # both are undoers
        assert list(undo.remains(data)) == []  # type: ignore[attr-defined]  # as above
    assert theirs.calls == net.calls == []


def test_a_network_is_stopped_and_forgotten(libvirt: FakeLibvirt) -> None:
    found, undo = network(libvirt), Networks()
    assert list(undo.remains(NETWORK)) == ["network aihow-lab in libvirt (private)"]
    undo.undo(NETWORK, 5.0)
    assert found.calls == ["destroy", "undefine"]
    assert list(undo.remains(NETWORK)) == []


def test_a_private_daemon_that_is_dead_knows_nothing(libvirt: FakeLibvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had defined lay in its own folders; its machines are ended by their processes."""
    found = machine(libvirt)
    monkeypatch.setattr(daemon, "is_up", lambda cluster: False)
    Domains().undo(DOMAIN, 5.0)
    assert list(Domains().remains(DOMAIN)) == []
    assert found.calls == []


def test_a_running_daemon_is_asked_for_what_carries_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt = FakeLibvirt()
    connect(monkeypatch, libvirt, private=False)
    machine(libvirt)
    network(libvirt)
    libvirt.defineXML(xml("domain", "somebody", "1", ""))
    libvirt.defineXML(xml("domain", "aihow-lab2-node01", "2", "pytest-ai-how:lab2/node01"))
    assert found_in_libvirt("lab") == [
        Entry("libvirt-network", {"cluster": "lab", "daemon": "test:///default"}),
        Entry("domain", {"cluster": "lab", "node": "node01", "daemon": "test:///default"}),
    ]
    libvirt.lacks = ("virConnectListAllNetworks",)
    assert [entry.kind for entry in found_in_libvirt("lab")] == ["domain"]
    connect(monkeypatch, libvirt, private=True)
    assert found_in_libvirt("lab") == []


def test_only_what_a_daemon_lacks_is_no_error() -> None:
    def refuses() -> list[object]:
        raise LibvirtError(38, "cannot recv data: Connection reset by peer")

    with pytest.raises(LibvirtError, match="^cannot recv data"):
        api.listed(refuses)


def test_the_lease_finds_the_undoers_by_kind(libvirt: FakeLibvirt, tmp_path: object) -> None:
    found = machine(libvirt)
    known = {one.kind: one for one in generic_undoers("libvirt", tmp_path)}  # type: ignore[arg-type]  # a Path
    assert {"domain", "libvirt-network", "daemon", "process", "bridge"} <= known.keys()
    known["domain"].undo(DOMAIN, 5.0)
    assert found.calls == ["destroy", "undefine 7"]
    with pytest.raises(LeaseError, match="the libvirt driver makes no 'pool'"):
        undoer("pool")


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(LeaseError, match="not a cluster name"):
        Domains().undo({**DOMAIN, "cluster": "../x"}, 5.0)
