"""Starting a private daemon, where the programs are pretended: what it is told, and what is said when it fails."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.drivers.libvirt import api, daemon, names, reaper
from pytest_ai_how.errors import HostError, ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import Process, process


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private daemon's folder; nothing is started, and the daemon answers at once."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = process(os.getpid())
    assert here is not None
    monkeypatch.setattr(daemon, "marked", lambda mark: (replace(here, name="libvirtd"),))
    monkeypatch.setattr(daemon, "_SOCKET", "etc/passwd")
    monkeypatch.setattr(api, "answers", lambda uri: uri.endswith(f"/proc/{here.pid}/root/etc/passwd"))
    return tmp_path / "state/pytest-ai-how/lab/machines/libvirt"


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was run to start the daemon, and what the journal held by then."""
    seen: dict[str, Any] = {}
    journal = Journal(tmp_path / "journal")

    def run(argv: list[str], **options: Any) -> None:
        seen.update(argv=argv, env=options["env"], pending=[(one.kind, dict(one.data)) for one in journal.pending()])

    monkeypatch.setattr(subprocess, "run", run)
    daemon.start_private("lab", journal)
    return seen


def test_its_undo_is_written_down_before_it_is_started(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = start(tmp_path, monkeypatch)
    mark = names.daemon_mark("lab")
    assert seen["pending"] == [("daemon", {"cookie": mark})]
    assert mark.startswith("pytest-ai-how:lab/")
    # The mark is among the arguments of the reaper, and in the environment of the daemon and what it starts.
    assert seen["argv"][-5:] == [reaper.__file__, mark, "libvirtd", "--config", "/etc/libvirt/libvirtd.conf"]
    assert seen["env"]["AI_HOW"] == mark
    assert seen["argv"][:5] == ["setsid", "--fork", "unshare", "--mount", "--propagation=slave"]


def test_its_settings_are_its_own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path, monkeypatch)
    settings = (home / "etc/qemu.conf").read_text().splitlines()
    wanted = {'user = "root"', "dynamic_ownership = 0", 'stdio_handler = "file"', 'security_driver = "none"'}
    assert wanted <= set(settings)
    assert 'unix_sock_rw_perms = "0700"' in (home / "etc/libvirtd.conf").read_text().splitlines()
    assert (tmp_path / "cache/pytest-ai-how/libvirt").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("known", [True, False])
def test_the_account_that_it_looks_up_is_added_to_its_view_only(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    def getpwnam(name: str) -> object:
        if not known:
            raise KeyError(name)
        return name

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    start(tmp_path, monkeypatch)
    assert (home / "passwd").exists() != known
    if not known:
        added = set((home / "passwd").read_text().splitlines()) - set(Path("/etc/passwd").read_text().splitlines())
        assert [line.partition(":")[0] for line in added] == ["libvirt-qemu"]


def test_one_that_ends_while_it_starts_says_why(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "marked", lambda mark: ())
    home.mkdir(parents=True)
    log = home / "libvirtd.log"
    log.write_text("error : virStateInitialize:660 : Initialization of QEMU state driver failed\n")
    with pytest.raises(ProvisionError) as caught:
        daemon._wait_for_answer("lab", log)
    assert str(caught.value).splitlines()[:2] == [
        "private libvirtd: ended while it started; it said:",
        "    error : virStateInitialize:660 : Initialization of QEMU state driver failed",
    ]


def test_its_socket_is_that_of_its_own_view(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Process(os.getpid(), 1, 1, "libvirtd")
    other = Process(os.getpid(), 1, 1, "python3")
    monkeypatch.setattr(daemon, "marked", lambda mark: (other, here))
    monkeypatch.setattr(daemon, "_SOCKET", "etc/passwd")
    assert daemon.address("lab", daemon.PRIVATE) == f"qemu+unix:///system?socket=/proc/{os.getpid()}/root/etc/passwd"
    monkeypatch.setattr(daemon, "marked", lambda mark: (other,))
    assert not daemon.is_up("lab")


def test_a_daemon_that_runs_is_found_by_its_name_or_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "answers", lambda uri: uri == daemon.SYSTEM)
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    assert daemon.running_daemon() == daemon.SYSTEM
    elsewhere = "qemu+unix:///system?socket=/srv/libvirt-sock"
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", elsewhere)
    assert daemon.running_daemon() == daemon.chosen_daemon() == elsewhere
    for wrong in ("qemu+ssh://other/system", "qemu:///session", "xen:///system"):
        monkeypatch.setenv("LIBVIRT_DEFAULT_URI", wrong)
        assert daemon.running_daemon() == ""
        with pytest.raises(HostError, match=f"LIBVIRT_DEFAULT_URI is {re.escape(wrong)}"):
            daemon.chosen_daemon()
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI")
    monkeypatch.setattr(api, "answers", lambda uri: False)
    assert daemon.running_daemon() == ""


def test_without_libvirt_python_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with (
        pytest.raises(HostError, match="no Python package libvirt-python") as caught,
        api.connected("qemu:///system"),
    ):
        pass
    assert "libvirt-dev" in caught.value.cure


def test_the_reaper_collects_orphans_and_ends_with_its_command(tmp_path: Path) -> None:
    """A grandchild whose parent is gone ends while the command runs; it must not stay as a zombie."""
    text = """
import os, subprocess, sys, time
orphan = subprocess.run(["sh", "-c", "sleep 0.05 >/dev/null & echo $!"], capture_output=True, text=True).stdout.strip()
end = time.monotonic() + 10
while os.path.exists("/proc/" + orphan) and time.monotonic() < end:
    time.sleep(0.01)
sys.exit(7 if os.path.exists("/proc/" + orphan) else 3)
"""
    argv = [sys.executable, "-I", reaper.__file__, "mark", sys.executable, "-c", text]
    assert subprocess.run(argv, check=False, timeout=30).returncode == 3
    assert subprocess.run([*argv[:4], "true"], check=False, timeout=30).returncode == 0
