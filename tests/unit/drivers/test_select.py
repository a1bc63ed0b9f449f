import os
import shutil

import pytest

from pytest_ai_how.drivers import select
from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver
from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError

from .sample import config


def host(monkeypatch: pytest.MonkeyPatch, uid: int, program: str | None, no_kvm: str = "KVM boots nothing") -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(shutil, "which", lambda name: program)
    monkeypatch.setattr(select, "no_kvm", lambda: no_kvm)


def test_auto_takes_libvirt_where_kvm_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 0, "/usr/bin/any", no_kvm="")
    assert isinstance(choose_driver(config(driver="auto")), LibvirtDriver)


def test_auto_takes_nspawn_where_we_are_root_and_kvm_does_not_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 0, "/usr/bin/systemd-nspawn")
    assert isinstance(choose_driver(config(driver="auto")), NspawnDriver)


@pytest.mark.parametrize(
    ("uid", "program", "lacks"),
    [
        (1000, "/usr/bin/any", ("libvirt: KVM boots nothing", "nspawn: needs root")),
        (0, None, ("libvirt: needs the program qemu-system-x86_64", "nspawn: needs the program systemd-nspawn")),
    ],
)
def test_auto_says_what_each_driver_lacks(
    monkeypatch: pytest.MonkeyPatch, uid: int, program: str | None, lacks: tuple[str, str]
) -> None:
    host(monkeypatch, uid, program)
    with pytest.raises(HostError) as caught:
        choose_driver(config(driver="auto"))
    assert caught.value.seen.splitlines()[1:] == [f"    {what}" for what in lacks]
    assert "driver: ssh" in caught.value.cure


def test_named_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, 1000, None)
    assert isinstance(choose_driver(config(driver="ssh")), SshDriver)
    assert isinstance(choose_driver(config(driver="nspawn")), NspawnDriver)
    assert isinstance(choose_driver(config(driver="libvirt")), LibvirtDriver)
