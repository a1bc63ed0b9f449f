import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_ai_how.drivers import select
from pytest_ai_how.drivers.libvirt import host as libvirt_host
from pytest_ai_how.drivers.libvirt import kvm
from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver
from pytest_ai_how.drivers.nspawn import NspawnDriver
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError, ImageError
from pytest_ai_how.progress import Silent

from .sample import config


def host(monkeypatch: pytest.MonkeyPatch, uid: int, program: str | None, no_kvm: str = "KVM boots nothing") -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(shutil, "which", lambda name: program)
    monkeypatch.setattr(select, "no_kvm", lambda progress, builds: no_kvm)


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


TO_BE_BUILT = "KVM was not probed: vm image: to be built, and its kernel is what tells"


@dataclass
class Store:
    """A store of images that holds ``vm`` or not, and the images that were built."""

    vm: Path | None = None
    built: list[str] = field(default_factory=list)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    """In place of the real one, on a host of root's on which only a kernel can tell whether KVM boots it."""
    store = Store()

    def ensure(name: str, progress: Silent) -> Path:
        store.built.append(name)
        progress.say(f"{name} image", "reading the package lists")
        raise ImageError(f"{name} image", "no mirror answers")

    def find(name: str) -> Store | None:
        return store if store.vm else None

    monkeypatch.setattr(Store, "path", property(lambda self: self.vm), raising=False)
    monkeypatch.setattr(select, "ensure_image", ensure)
    monkeypatch.setattr(select, "find_image", find)
    monkeypatch.setattr(kvm, "no_kvm", lambda kernel: f"a kernel of {kernel()} dies")
    monkeypatch.setattr(libvirt_host, "host_lacks", lambda: "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return store


def programs(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in there else None)


def test_a_plan_builds_no_image_to_know_what_kvm_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch, "systemd-nspawn")
    libvirt = choose_driver(config(driver="libvirt"), builds=False).facts()
    assert libvirt.notes[0] == TO_BE_BUILT
    assert "cpus.native" not in libvirt.absent, "nobody knows"
    auto = choose_driver(config(driver="auto"), builds=False)
    assert auto.facts().notes[0] == f"virtual machines where KVM boots them: {TO_BE_BUILT}"
    assert isinstance(auto, NspawnDriver)
    assert store.built == []


def test_a_plan_of_what_only_kvm_may_make_possible(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch)
    auto = choose_driver(config(driver="auto"), builds=False)
    assert (auto.name, auto.facts().notes[0]) == ("libvirt", TO_BE_BUILT)
    assert store.built == []


def test_a_plan_knows_what_can_be_known_without_building(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch, "systemd-nspawn")
    store.vm = Path("/images/vm")
    facts = choose_driver(config(driver="libvirt"), builds=False).facts()
    assert facts.notes[0] == "machines are emulated (TCG): a kernel of /images/vm dies"
    assert facts.absent["cpus.native"] == facts.notes[0]
    auto = choose_driver(config(driver="auto"), builds=False)
    assert isinstance(auto, NspawnDriver)
    assert "virtual machines" not in auto.facts().notes[0]
    assert store.built == []


def test_a_plan_of_an_image_that_was_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str) -> None:
        raise ImageError(f"/images/{name}", "was changed after it was built")

    monkeypatch.setattr(select, "find_image", changed)
    facts = choose_driver(config(driver="libvirt"), builds=False).facts()
    assert facts.notes[0] == "KVM was not probed: /images/vm: was changed after it was built"
    assert store.built == []


def test_a_run_builds_and_says_so(store: Store) -> None:
    said: list[str] = []

    class Heard:
        def say(self, subject: str, text: str) -> None:
            said.append(f"{subject}: {text}")

    facts = choose_driver(config(driver="libvirt"), Heard()).facts()
    assert facts.notes[0] == (
        "machines are emulated (TCG): KVM was not probed, for want of a kernel: vm image: no mirror answers"
    )
    assert (store.built, said) == (["vm"], ["vm image: reading the package lists"])
