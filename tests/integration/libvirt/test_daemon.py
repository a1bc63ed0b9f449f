"""A daemon that runs is used as it is; nothing that is not ours is touched; no machine is booted here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.drivers.libvirt import api, daemon
from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.drivers.libvirt.names import daemon_mark
from pytest_ai_how.drivers.select import libvirt_driver
from pytest_ai_how.errors import HostError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import cluster_state, private_folder
from pytest_ai_how.lease.undo import undo_all, undo_entries
from pytest_ai_how.lease.undoers import found_by_mark, generic_undoers
from pytest_ai_how.progress import Silent

from .sample import Made, config, prepare

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a private libvirt daemon needs root"),
    pytest.mark.skipif(bool(host_lacks()), reason=f"driver libvirt {host_lacks()}"),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="apt-get install libvirt-daemon"),
]
FOREIGN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a daemon that runs already: where there is none, one of ours plays the user's.

    A second one could not start beside it: its pid file has one place.
    """
    if there := daemon.running_daemon():
        yield there
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        state = private_folder(cluster_state("vmhost"))
        journal = Journal(state / "journal")
        journal.intend("directory", path=str(state / "machines"))
        try:
            daemon.start_private("vmhost", journal)
            yield daemon.address("vmhost", daemon.PRIVATE)
        finally:
            undo_all(journal, generic_undoers("libvirt", state))
        assert marked(daemon_mark("vmhost")) == ()


@pytest.fixture
def made(running: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """A cluster of machines that are defined and off, in the daemon that runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", running)
    found = prepare(off("vmoff"), libvirt_driver(Silent()))
    try:
        found.up()
        yield found
    finally:
        found.down()
    assert found.traces() == []
    assert ours(running) == []


def off(name: str, subnet: str = "10.68.1") -> Any:
    plain = config(name, subnet, storage={"kind": "none"})
    return plain.model_copy(
        update={"nodes": tuple(node.model_copy(update={"auto_start": False}) for node in plain.nodes)}
    )


def ours(uri: str) -> list[str]:
    with api.connected(uri) as connection:
        names = [one.name() for one in (*connection.listAllDomains(), *connection.listAllNetworks())]
    return sorted(name for name in names if name.startswith("aihow-"))


def test_the_daemon_sees_folders_of_its_own(running: str) -> None:
    if daemon.running_daemon() == running:
        pytest.skip("this host's own daemon runs, and is nobody's to look into")
    [view] = [one for one in marked(daemon_mark("vmhost")) if one.name == "libvirtd"]
    real, seen = Path("/var/lib/libvirt"), Path(f"/proc/{view.pid}/root/var/lib/libvirt")
    assert seen.is_dir()
    assert not real.exists() or not real.samefile(seen)
    assert "stdio_handler" in Path(f"/proc/{view.pid}/root/etc/libvirt/qemu.conf").read_text()
    assert not any("libvirt" in line for line in Path("/proc/mounts").read_text().splitlines())
    assert not Path("/run/libvirt/libvirt-sock").exists()


def test_machines_are_defined_and_off_in_the_daemon_that_runs(made: Made, running: str) -> None:
    assert ours(running) == ["aihow-vmoff", "aihow-vmoff-controller", "aihow-vmoff-node01"]
    assert {made.driver.state(made.config, node.name) for node in made.config.nodes} == {"off"}
    assert marked(daemon_mark("vmoff")) == ()
    with api.connected(running) as connection:
        xml = connection.lookupByName("aihow-vmoff-node01").XMLDesc()
    assert "<label>+0:+0</label>" in xml


def test_a_name_that_is_taken_is_refused(made: Made, running: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="bridge ah-vmoff belongs to a cluster 'vmoff'"):
        made.driver.check(made.config)
    with api.connected(running) as connection:
        theirs = connection.defineXML(FOREIGN.format(name="aihow-vmnext-node01"))
    try:
        with pytest.raises(HostError, match="domain aihow-vmnext-node01 exists in libvirt and is not ours"):
            made.driver.check(off("vmnext", "10.68.2"))
    finally:
        theirs.undefine()


def test_what_is_not_ours_stays(made: Made, running: str) -> None:
    with api.connected(running) as connection:
        theirs = connection.defineXML(FOREIGN.format(name="somebody"))
        made.down()
        assert [one.name() for one in connection.listAllDomains()] == ["somebody"]
        theirs.undefine()


def test_a_cluster_without_its_journal_is_found_by_its_marks(made: Made, running: str) -> None:
    found = found_by_mark("vmoff", cluster_state("vmoff"))
    assert sorted(entry.kind for entry in found) == ["bridge", "domain", "domain", "libvirt-network"]
    undo_entries(made.journal, found, generic_undoers("libvirt", cluster_state("vmoff")))
    assert ours(running) == []
