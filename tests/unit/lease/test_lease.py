from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pytest_ai_how.errors import ClusterInUse, LeaseError, RecordError, TransportError
from pytest_ai_how.lease.lease import Claim, Lease
from pytest_ai_how.lease.owner import owner_of
from pytest_ai_how.lease.record import boot_id, read_record
from pytest_ai_how.lease.undo import Undo
from tests.unit.lease.widgets import CLAIM, NAME, Widgets, kill, make, python, said

# owning


def test_a_second_comer_is_told_run_pid_and_host(lease: Lease) -> None:
    expected = f"cluster 'aihowlease': in use by run run1, pid {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(ClusterInUse, match=re.escape(expected)) as caught:
        Lease.acquire(NAME, "run2", CLAIM)
    assert "do: wait for that run to end" in str(caught.value)
    assert owner_of(lease.state) is not None


def test_the_folder_and_its_files_are_private(lease: Lease) -> None:
    assert lease.state.stat().st_mode & 0o777 == 0o700
    lease.ensure("machines", "f", dict)
    with lease.using(exclusive=True):
        modes = {path.name: path.stat().st_mode & 0o777 for path in lease.state.iterdir()}
    assert set(modes) >= {"owner.lock", "record.json", "use.lock"}
    assert set(modes.values()) == {0o600}


def test_release_leaves_nothing(lease: Lease, widgets: Path, home: Path) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1"))
    assert lease.release() is False
    assert widgets.read_text() == ""
    assert list(home.iterdir()) == []
    assert owner_of(lease.state) is None


@pytest.mark.parametrize(("keep", "failed"), [("always", False), ("failed", True)])
def test_a_kept_cluster_is_found_again(
    lease: Lease, widgets: Path, undoers: Callable[[str, Path], list[Undo]], keep: str, failed: bool
) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1"))
    assert lease.release(keep, failed) is True  # type: ignore[arg-type]  # parametrize knows str only
    assert lease.record.kept
    again = Lease.acquire(NAME, "run2", CLAIM, undoers)
    assert again.attached
    assert again.ensure("machines", "f", lambda: pytest.fail("was run again")) == {"made": "w1"}
    assert (again.record.run, again.record.kept) == ("run2", False)
    again.release()
    assert widgets.read_text() == ""


def test_what_did_not_fail_is_not_kept_for_failures(lease: Lease) -> None:
    assert lease.release("failed", failed=False) is False
    assert not lease.state.exists()


@pytest.mark.parametrize("claim", [Claim("fake", "f2"), Claim("other", "f1"), Claim()])
def test_another_cluster_of_that_name_is_taken_down_first(
    lease: Lease, widgets: Path, undoers: Callable[[str, Path], list[Undo]], claim: Claim
) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1"))
    lease.release("always")
    other = Lease.acquire(NAME, "run2", claim, undoers)
    assert not other.attached
    assert widgets.read_text() == ""
    assert other.record.steps == {}
    other.release()


def test_after_a_reboot_nothing_is_attached_to(
    lease: Lease, widgets: Path, undoers: Callable[[str, Path], list[Undo]]
) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1"))
    lease.release("always")
    path = lease.state / "record.json"
    path.write_text(path.read_text().replace(boot_id(), "another-boot"))
    assert lease.record.age is None
    other = Lease.acquire(NAME, "run2", CLAIM, undoers)
    assert not other.attached
    assert widgets.read_text() == ""
    other.release()


@pytest.mark.parametrize("kind", ["process", "daemon"])
def test_a_kept_cluster_whose_process_is_gone_is_not_attached_to(lease: Lease, kind: str) -> None:
    lease.ensure("machines", "f", dict)
    lease.release("always")
    lease.journal.of("machines").intend(kind, cookie=f"pytest-ai-how:{NAME}/gone")
    other = Lease.acquire(NAME, "run2", CLAIM)
    assert not other.attached
    other.release()


def test_killed_owner_leaves_the_lock_free(undoers: Callable[[str, Path], list[Undo]], widgets: Path) -> None:
    owner = python(
        """if True:
        import sys, time
        from pytest_ai_how.lease.lease import Lease, Claim
        lease = Lease.acquire("aihowlease", "killed", Claim("fake", "f1"))
        lease.journal.of("machines").intend("widget", name="w1")
        open(sys.argv[1], "w").write("w1\\n")
        print("ready", flush=True)
        time.sleep(60)
        """,
        str(widgets),
    )
    said(owner, "ready")
    with pytest.raises(ClusterInUse, match=f"run killed, pid {owner.pid}"):
        Lease.acquire(NAME, "run2", CLAIM)
    kill(owner)
    lease = Lease.acquire(NAME, "run2", Claim("fake", "f2"), undoers)
    assert widgets.read_text() == ""
    lease.release()


def test_children_that_go_on_do_not_hold_the_owner_lock(lease: Lease) -> None:
    """Neither one that was started with all descriptors open, nor one forked without exec, keeps the lock."""
    child = subprocess.Popen(["sleep", "60"], close_fds=False, start_new_session=True)
    reader, writer = os.pipe()
    forked = os.fork()
    if forked == 0:
        os.write(writer, b"!")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(reader, 1) == b"!"
        lease.close()
        other = Lease.acquire(NAME, "run2", CLAIM)
        assert child.poll() is None
        assert os.waitpid(forked, os.WNOHANG) == (0, 0)
        other.close()
    finally:
        child.kill()
        child.wait(10)
        os.kill(forked, signal.SIGKILL)
        os.waitpid(forked, 0)
        os.close(reader)
        os.close(writer)


def test_a_fork_does_not_unlock(lease: Lease) -> None:
    forked = os.fork()
    if forked == 0:
        os._exit(0)
    os.waitpid(forked, 0)
    with pytest.raises(ClusterInUse):
        Lease.acquire(NAME, "run2", CLAIM)


def test_only_the_owner_releases(lease: Lease) -> None:
    worker = Lease.join(NAME, "run1")
    with pytest.raises(LeaseError, match="is not ours to release"):
        worker.release()


def test_joining_needs_the_record_of_that_run(lease: Lease) -> None:
    with pytest.raises(LeaseError, match="run run1 has it"):
        Lease.join(NAME, "run9")
    lease.release()
    with pytest.raises(LeaseError, match="there is no record"):
        Lease.join(NAME, "run1")


def test_a_worker_that_lost_its_run_does_nothing(lease: Lease) -> None:
    worker = Lease.join(NAME, "run1")
    lease.release("always")
    other = Lease.acquire(NAME, "run2", CLAIM)
    with pytest.raises(LeaseError, match="run run1 lost it to run run2"):
        worker.ensure("machines", "f", lambda: pytest.fail("was run"))
    other.release()


def test_a_corrupt_record_is_an_error_that_drops_the_lock(lease: Lease) -> None:
    lease.release("always")
    (lease.state / "record.json").write_text("{broken")
    for _ in range(2):
        with pytest.raises(RecordError, match="pytest-ai-how reap --force aihowlease"):
            Lease.acquire(NAME, "run2", CLAIM)


def test_what_can_not_be_undone_is_listed_and_the_record_stays(
    lease: Lease, widgets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease.ensure("machines", "f", lambda: make(lease, widgets, "w1") | make(lease, widgets, "w2"))
    undo = Widgets.undo

    def stubborn(self: Widgets, data: Mapping[str, str], deadline: float) -> None:
        if data["name"] == "w2":
            raise TransportError("node02", "is stuck")
        undo(self, data, deadline)

    monkeypatch.setattr(Widgets, "undo", stubborn)
    with pytest.raises(LeaseError) as caught:
        lease.release()
    assert str(caught.value).startswith(
        "localhost: 1 parts of cluster 'aihowlease' remain:\n    widget w2; node02: is stuck\n"
    )
    assert widgets.read_text() == "w2\n"
    assert [entry.data["name"] for entry in lease.journal.pending()] == ["w2"]
    assert read_record(lease.state / "record.json") is not None
    assert owner_of(lease.state) is None


def test_a_clock_that_jumps_decides_nothing(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -1e12)
    monkeypatch.setattr(time, "gmtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 0, 1, 0)))
    lease.ensure("machines", "f", dict)
    lease.release("always")
    again = Lease.acquire(NAME, "run2", CLAIM)
    assert again.attached
    assert again.record.age is not None
    assert 0 <= again.record.age < 60
    again.release()
