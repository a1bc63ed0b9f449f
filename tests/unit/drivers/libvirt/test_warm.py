"""What is kept of machines that were ready, and that machines go on whatever happens while they are kept."""

from __future__ import annotations

import fcntl
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.drivers.libvirt import names, warm
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.errors import DeadlineExceeded, ProvisionError, TransportError
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from tests.unit.drivers.sample import config

from .fakes import OFF, RUNNING, FakeDomain, FakeLibvirt, LibvirtError


class SavedDomain(FakeDomain):
    """A domain that can be suspended and saved."""

    def suspend(self) -> None:
        self.calls.append("suspend")

    def resume(self) -> None:
        self.calls.append("resume")

    def saveFlags(self, path: str, xml: None, flags: int) -> None:
        if "cannot" in self.calls:
            raise LibvirtError(1, "unable to save")
        self.calls.append(f"save {flags}")
        Path(path).write_text(self.name())
        self.states[:] = [OFF]


class SavedLibvirt(FakeLibvirt):
    def restoreFlags(self, path: str, xml: None, flags: int) -> None:
        domain = self.lookupByName(Path(path).read_text())
        assert isinstance(domain, SavedDomain)
        domain.calls.append(f"restore {flags}")
        domain.states[:] = [RUNNING]


NODES = ("controller", "node01")


@pytest.fixture
def libvirt() -> SavedLibvirt:
    home = SavedLibvirt()
    for node in NODES:
        xml = (
            f"<domain><name>{names.machine_name('lab', node)}</name><uuid>{names.machine_uuid('lab', node)}</uuid>"
            f"<metadata><x:owner xmlns:x='{names.NAMESPACE}' mark='{names.machine_mark('lab', node)}'/></metadata>"
            "</domain>"
        )
        home.domains.append(SavedDomain(home, xml, [RUNNING]))
    return home


@pytest.fixture
def machines(tmp_path: Path) -> list[Machine]:
    found = []
    for node in config().nodes[: len(NODES)]:
        machine = Machine(config(), node, tmp_path / "nodes" / node.name)
        machine.folder.mkdir(parents=True)
        machine.disk.write_text(f"disk of {node.name}")
        machine.initrd.write_text(f"initrd of {node.name}")
        found.append(machine)
    return found


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    (folder / "identity.json").write_text("secret")
    (folder / "identity.json").chmod(0o600)
    return folder


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> warm.Warm:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return warm.warm_of("lab", tmp_path, "print1", ["QEMU 7.2"])


def calls(libvirt: SavedLibvirt) -> list[list[str]]:
    return [domain.calls for domain in libvirt.domains]


def test_what_is_kept_is_roots_alone_and_the_machines_go_on(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path
) -> None:
    assert not kept.is_kept
    warm.keep(kept, keys, machines, libvirt)
    assert kept.is_kept
    assert calls(libvirt) == [["suspend", "save 2", "restore 2"]] * 2
    assert all(domain.states == [RUNNING] for domain in libvirt.domains)
    for path in (kept.home, kept.folder, kept.keys, kept.folder / "node01"):
        assert path.stat().st_mode & 0o777 == 0o700, path
    assert {path.stat().st_mode & 0o777 for path in kept.folder.rglob("*") if path.is_file()} == {0o600}
    assert [path.name for path in kept.home.iterdir() if path.is_dir()] == [kept.folder.name]


def test_a_machine_continues_with_copies(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path
) -> None:
    warm.keep(kept, keys, machines, libvirt)
    for path in (machines[1].disk, machines[1].initrd):
        path.unlink()
    kept.copy_to(machines[1])
    machines[1].disk.write_text("written by the machine that continues")
    assert machines[1].initrd.read_text() == "initrd of node01"
    assert (kept.folder / "node01/disk.qcow2").read_text() == "disk of node01"
    libvirt.domains[1].states[:] = [OFF]
    kept.restore(machines[1], libvirt)
    assert libvirt.domains[1].states == [RUNNING]


def test_machines_that_cannot_be_kept_go_on_and_nothing_is_left(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path
) -> None:
    libvirt.domains[1].calls.append("cannot")
    with pytest.raises(LibvirtError, match="unable to save"):
        warm.keep(kept, keys, machines, libvirt)
    assert calls(libvirt) == [["suspend", "save 2", "restore 2"], ["cannot", "suspend", "resume"]]
    assert not kept.is_kept
    assert [path.name for path in kept.home.iterdir()] == [".lock"]


def test_only_the_last_state_of_a_cluster_is_kept(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path, tmp_path: Path
) -> None:
    other = warm.warm_of("other", tmp_path, "print1", [])
    warm.keep(other, keys, machines, libvirt)
    warm.keep(kept, keys, machines, libvirt)
    newer = warm.warm_of("lab", tmp_path, "print2", ["QEMU 7.2"])
    (kept.home / ".keeping-ab12").mkdir()
    warm.keep(newer, keys, machines, libvirt)
    assert (other.is_kept, kept.is_kept, newer.is_kept) == (True, False, True)
    assert not (kept.home / ".keeping-ab12").exists()


def truncate(path: Path) -> None:
    path.write_text(path.read_text()[:-1])


@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["shorter", "gone"])
@pytest.mark.parametrize(
    "name", ["node01/memory", "controller/disk.qcow2", "node01/initrd", "keys/identity.json", "manifest.json"]
)
def test_what_is_damaged_is_not_kept_and_kept_anew(
    kept: warm.Warm,
    libvirt: SavedLibvirt,
    machines: list[Machine],
    keys: Path,
    damage: Callable[[Path], None],
    name: str,
) -> None:
    warm.keep(kept, keys, machines, libvirt)
    assert kept.is_kept
    damage(kept.folder / name)
    assert not kept.is_kept
    warm.keep(kept, keys, machines, libvirt)
    assert kept.is_kept


def test_what_was_kept_without_its_sizes_is_not_kept(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path
) -> None:
    warm.keep(kept, keys, machines, libvirt)
    manifest = json.loads((kept.folder / "manifest.json").read_text())
    assert manifest["sizes"]["node01/memory"] == (kept.folder / "node01/memory").stat().st_size
    del manifest["sizes"]
    (kept.folder / "manifest.json").write_text(json.dumps(manifest))
    assert not kept.is_kept


def test_a_machine_that_does_not_continue_is_named_with_a_cure(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm.keep(kept, keys, machines, libvirt)
    cure = f"  do: rm -r {kept.folder}, then bring it up again: the machines boot, and are kept anew"

    def refuse(path: str, xml: None, flags: int) -> None:
        raise LibvirtError(1, "operation failed: save image is incomplete")

    monkeypatch.setattr(libvirt, "restoreFlags", refuse)
    with pytest.raises(ProvisionError) as caught:
        kept.restore(machines[1], libvirt)
    assert str(caught.value).splitlines() == [
        "node01: does not continue from what was kept of it: operation failed: save image is incomplete",
        cure,
    ]
    (kept.folder / "node01/disk.qcow2").unlink()
    with pytest.raises(ProvisionError) as caught:
        kept.copy_to(machines[1])
    said = str(caught.value).splitlines()
    assert said[0].startswith(f"node01: {kept.folder}/node01/disk.qcow2 can't be copied: cp: ")
    assert said[-1] == cure


def test_a_disk_that_can_not_be_kept_is_named(
    kept: warm.Warm, libvirt: SavedLibvirt, machines: list[Machine], keys: Path
) -> None:
    machines[1].disk.unlink()
    with pytest.raises(ProvisionError) as caught:
        warm.keep(kept, keys, machines, libvirt)
    said = str(caught.value).splitlines()
    assert said[0].startswith(f"node01: {machines[1].disk} can't be copied: cp: ")
    assert said[-1] == "  do: free some room below XDG_CACHE_HOME, or leave bringup: restore out"
    assert all(domain.states == [RUNNING] for domain in libvirt.domains)
    assert not kept.is_kept


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"fingerprint": "of others"}'])
def test_what_is_not_complete_is_not_kept(kept: warm.Warm, text: str) -> None:
    kept.folder.mkdir(parents=True)
    assert not kept.is_kept
    (kept.folder / "manifest.json").write_text(text)
    assert not kept.is_kept


def test_memory_fits_the_same_machines_on_the_same_host_only(tmp_path: Path) -> None:
    one = warm.warm_of("lab", tmp_path, "print1", [True, "QEMU 7.2"])
    others = [
        warm.warm_of("lab", tmp_path, "print2", [True, "QEMU 7.2"]),
        warm.warm_of("lab", tmp_path / "x", "print1", [True, "QEMU 7.2"]),
        warm.warm_of("lab", tmp_path, "print1", [False, "QEMU 7.2"]),
        warm.warm_of("lab", tmp_path, "print1", [True, "QEMU 10.0"]),
    ]
    assert len({each.fingerprint for each in (one, *others)}) == 5


class Clock(FakeTransport):
    """A machine whose services were held, and whose clock can be set, or can't."""

    def __init__(self, name: str, *, works: bool = True, refuses: bool = False) -> None:
        super().__init__(name, {})
        self.behind, self.works, self.refuses, self.closed, self.tries, self.opened = (
            3600.0,
            works,
            refuses,
            False,
            0,
            0,
        )

    def open(self) -> None:
        self.opened += 1
        if self.opened == 1:
            raise TransportError(self.node, "no ssh connection")

    def execute(self, argv: Any, **_: Any) -> Result:
        argv = tuple(argv)
        assert self.opened > 1, "to log in takes longer than a clock may be behind"
        assert argv[:3] == warm._GO_ON[:3]
        assert argv[5] == "0"
        self.tries += 1
        if self.works:
            self.behind = time.time() - float(argv[4]) + (3.0 if self.tries == 1 else 0.0)
        return Result(argv, 1 if self.refuses else 0, f"{time.time() - self.behind:.9f}\n", "Operation not permitted")

    def close(self) -> None:
        self.closed = True


def test_clocks_are_set_and_read_again() -> None:
    clocks = {name: Clock(name) for name in NODES}
    warm.go_on(clocks)
    assert all(abs(clock.behind) < 0.5 and not clock.closed for clock in clocks.values())
    # One that is late is set again, over the connection that is there by then.
    assert all(clock.tries == 2 for clock in clocks.values())


@pytest.mark.parametrize(
    ("clock", "error", "said"),
    [
        (
            Clock("node01", works=False),
            DeadlineExceeded,
            r"node01: not at this host's time within 0\.2 s; last seen: it said \d+\.\d+ when it was \d+\.\d+",
        ),
        (Clock("node01", refuses=True), ProvisionError, "node01: its clock can't be set: .*Operation not permitted"),
    ],
)
def test_a_clock_that_is_not_right_is_an_error(clock: Clock, error: type[Exception], said: str) -> None:
    clocks = {"controller": Clock("controller"), "node01": clock}
    with pytest.raises(error, match=f"(?s){said}"):
        warm.go_on(clocks, within=0.2)
    assert all(clock.closed for clock in clocks.values())


def test_services_stand_still_and_go_on_but_those_that_a_login_needs(tmp_path: Path) -> None:
    """The words for a machine, run by a real shell on control groups that are plain files here."""
    for unit in ("munge", "slurmctld", "ssh", "systemd-journald"):
        (tmp_path / f"{unit}.service").mkdir()
        (tmp_path / f"{unit}.service/cgroup.freeze").write_text("0\n")

    def run(argv: tuple[str, ...]) -> Result:
        words = [
            word.replace("/sys/fs/cgroup/system.slice", str(tmp_path)).replace("date --set", "echo") for word in argv
        ]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        return Result(argv, done.returncode, done.stdout, done.stderr)

    class Here(FakeTransport):
        def open(self) -> None:
            pass

    def states() -> dict[str, str]:
        return {path.parent.stem: path.read_text().strip() for path in tmp_path.glob("*/cgroup.freeze")}

    here = Here("node01", {"sh -c": run})
    warm.stand_still({"node01": here})
    assert states() == {"munge": "1", "slurmctld": "1", "ssh": "0", "systemd-journald": "0"}
    warm.go_on({"node01": here})
    assert set(states().values()) == {"0"}


def test_services_that_cannot_be_held_are_an_error() -> None:
    refuses = FakeTransport("node01", {"sh -c": Result((), 1, stderr="sh: cannot create cgroup.freeze: Read-only\n")})
    with pytest.raises(ProvisionError, match="node01: its services can't be held: .*Read-only"):
        warm.stand_still({"node01": refuses})


def test_leftovers_of_killed_processes_are_removed(kept: warm.Warm) -> None:
    assert warm.leftovers(kept.home, remove=True) == []
    (kept.home / ".keeping-ab12/node01").mkdir(parents=True)
    lock = (kept.home / ".lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert warm.leftovers(kept.home, remove=True) == []
    lock.close()
    assert warm.leftovers(kept.home) == [kept.home / ".keeping-ab12"]
    kept.folder.mkdir()
    manifest = {"fingerprint": kept.fingerprint, "cluster": "lab", "sizes": {}}
    (kept.folder / "manifest.json").write_text(json.dumps(manifest))
    assert warm.leftovers(kept.home, remove=True) == [kept.home / ".keeping-ab12"]
    assert (kept.is_kept, warm.leftovers(kept.home)) == (True, [])
