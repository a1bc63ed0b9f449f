import os
import shutil

import pytest

from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError

from .sample import config


def host(monkeypatch: pytest.MonkeyPatch, uid: int, program: str | None) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(shutil, "which", lambda name: program)


def test_auto_takes_nspawn_where_we_are_root(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 0, "/usr/bin/systemd-nspawn")
    assert isinstance(choose_driver(config(driver="auto")), NspawnDriver)


@pytest.mark.parametrize(
    ("uid", "program", "lacks"),
    [(1000, "/usr/bin/systemd-nspawn", "nspawn: needs root"), (0, None, "nspawn: needs the program systemd-nspawn")],
)
def test_auto_says_what_each_driver_lacks(
    monkeypatch: pytest.MonkeyPatch, uid: int, program: str | None, lacks: str
) -> None:
    host(monkeypatch, uid, program)
    with pytest.raises(HostError) as caught:
        choose_driver(config(driver="auto"))
    assert lacks in caught.value.seen
    assert "libvirt: not part of this version" in caught.value.seen
    assert "driver: ssh" in caught.value.cure


def test_named_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 1000, None)
    assert isinstance(choose_driver(config(driver="ssh")), SshDriver)
    assert isinstance(choose_driver(config(driver="nspawn")), NspawnDriver)
    with pytest.raises(HostError, match="driver libvirt: not part of this version"):
        choose_driver(config(driver="libvirt"))
