"""What is said to an account that a running daemon does not let in."""

from __future__ import annotations

import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ai_how.drivers.libvirt import daemon, rights
from pytest_ai_how.drivers.libvirt.build import make_network
from pytest_ai_how.errors import HostError, ProvisionError

from .fakes import FakeLibvirt, LibvirtError
from .test_xml import config


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket on which a daemon listens."""
    place = tmp_path / "libvirt-sock"
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path has 107 characters at most
        server.bind(place.name)
        server.listen()
        yield Path(place.name)


def closed(monkeypatch: pytest.MonkeyPatch, *, gid: int = 117, mode: int = 0o140770, members: list[str]) -> None:
    """Have the socket refuse this account, whoever runs the tests."""

    def connect(_self: Any, _address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(rights.socket, "socket", type("Closed", (socket.socket,), {"connect": connect}))
    monkeypatch.setattr(Path, "stat", lambda _self: SimpleNamespace(st_uid=0, st_gid=gid, st_mode=mode))
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: SimpleNamespace(gr_name="libvirt", gr_mem=members))
    monkeypatch.setattr(rights, "_user", lambda: "ann")


def test_a_daemon_that_lets_us_in_refuses_nothing(listening: Path) -> None:
    assert rights.refusal(f"qemu+unix:///system?socket={listening}") is None
    assert rights.refusal("qemu:///system", (Path("missing"), listening)) is None


def test_a_daemon_that_is_not_there_is_another_matter(tmp_path: Path) -> None:
    assert rights.refusal("qemu:///system", (tmp_path / "missing",)) is None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"members": []}, "sudo adduser ann libvirt, then log in anew; or run the same command as root"),
        (
            {"members": ["ann"]},
            "log in anew, since this session is older than ann's place in the group libvirt; or: ne",
        ),
        ({"members": [], "gid": 0}, "let a group of this user's have /s: unix_sock_group and unix_sock_rw_perms in"),
        ({"members": ["ann"], "mode": 0o140700}, "let a group of this user's have /s: unix_sock_group"),
    ],
)
def test_rights_that_lack_are_named_with_their_cure(
    how: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed(monkeypatch, **how)
    found = rights.refusal("qemu+unix:///system?socket=/s")
    assert found is not None
    assert found.seen.startswith("user ann may not use libvirt's socket /s: it is of root:libvirt, mode 07")
    assert found.cure is not None
    assert found.cure.startswith(said)


def test_a_folder_that_is_closed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, members=[])

    def stat(_self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", stat)
    found = rights.refusal("qemu+unix:///system?socket=/run/x/s")
    assert found is not None
    assert found.seen == "user ann may not look into /run/x, where libvirt's socket s is (Permission denied)"
    assert found.cure is not None
    assert "unix_sock_group" in found.cure


def test_who_may_not_use_the_daemon_that_runs_is_not_told_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "running_daemon", lambda: "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    closed(monkeypatch, members=[])
    with pytest.raises(HostError, match="user ann may not use libvirt's socket /run/libvirt/virtqemud-sock"):
        daemon.chosen_daemon()


@pytest.mark.parametrize(
    ("own_bridge", "cure"),
    [
        (False, "do: if it lacks programs or folders, apt-get install libvirt-daemon-system iptables and systemctl"),
        (True, "do: see what libvirt says to it"),
    ],
)
def test_a_daemon_that_can_make_no_bridge_is_told_what_it_lacks(
    own_bridge: bool, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libvirt 9.0 says where iptables is not installed."""
    libvirt = FakeLibvirt()

    def create(_xml: str) -> None:
        raise LibvirtError(1, "Failed to apply firewall rules /usr/sbin/iptables -w: cannot execute binary")

    monkeypatch.setattr(libvirt, "networkDefineXML", create)
    with pytest.raises(ProvisionError) as caught:
        make_network(config(), libvirt, own_bridge=own_bridge)
    said = str(caught.value)
    assert said.startswith(
        "network of lab: libvirt does not make it: Failed to apply firewall rules /usr/sbin/iptables"
    )
    assert cure in said
