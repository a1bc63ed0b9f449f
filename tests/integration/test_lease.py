"""The undoers against the kernel, and crashes of whole processes. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease import reap
from pytest_ai_how.lease.files import Mounts, mounts_below
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.kernel import Cgroups, Interfaces, hierarchies, marked_cgroups, marked_interfaces
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.lease.undo import undo_all
from pytest_ai_how.lease.undoers import generic_undoers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes mounts, bridges and control groups: needs root")

NAME = "aihowlease"
COOKIE = cookie(NAME)
BRIDGE = "aihowlease9"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "pytest-ai-how" / NAME
    folder.mkdir(parents=True)
    yield folder
    left = [*mounts_below(tmp_path), *marked_interfaces(COOKIE), *marked_cgroups(COOKIE), *marked(COOKIE)]
    if left:  # a test that failed must not fail the others
        reap.force_down(NAME, "clean-up")
    assert left == [], "the test left something behind"


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


# mounts


def test_stacked_and_nested_mounts_go_in_reverse_order(state: Path) -> None:
    root = state / "root with a blank"
    root.mkdir()
    for _ in range(2):
        run("mount", "-t", "tmpfs", "aihowlease", str(root))
    (root / "below").mkdir()
    run("mount", "-t", "tmpfs", "aihowlease", str(root / "below"))
    data = {"target": str(root)}
    assert len(list(Mounts(state).remains(data))) == 3
    Mounts(state).undo(data, 5)
    assert list(Mounts(state).remains(data)) == []


def test_a_mount_elsewhere_is_not_unmounted(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run("mount", "-t", "tmpfs", "aihowlease", str(other))
    try:
        with pytest.raises(LeaseError, match="not touched"):
            Mounts(state).undo({"target": str(other)}, 1)
        assert mounts_below(other) == (str(other),)
    finally:
        run("umount", str(other))


def test_a_busy_mount_is_detached_at_last_and_said(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pytest_ai_how.lease.files._BUSY", 0.2)
    root = state / "root"
    root.mkdir()
    run("mount", "-t", "tmpfs", "aihowlease", str(root))
    with (root / "open").open("w"):
        Mounts(state).undo({"target": str(root)}, 5)
    assert mounts_below(root) == ()
    assert f"{root} stayed busy and was detached" in caplog.text


def test_a_folder_with_a_mount_is_kept_until_the_mount_is_gone(state: Path) -> None:
    """Journalled in the wrong order, the tree is refused rather than what is mounted in it emptied."""
    root = state / "machines" / "root"
    root.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "aihowlease", str(root))
    (root / "precious").touch()
    journal = Journal(state / "journal.jsonl")
    journal.intend("mount", target=str(root))
    journal.intend("directory", path=str(state / "machines"))
    with pytest.raises(LeaseError, match="is mounted"):
        undo_all(journal, generic_undoers("", state))
    undo_all(journal, generic_undoers("", state))
    assert not (state / "machines").exists()


# interfaces


def test_a_bridge_of_ours_is_deleted(state: Path) -> None:
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "link", "set", BRIDGE, "alias", COOKIE)
    run("ip", "link", "set", BRIDGE, "up")
    assert marked_interfaces(COOKIE) == [BRIDGE]
    data = {"name": BRIDGE, "cookie": COOKIE}
    assert list(Interfaces().remains(data)) == [f"bridge {BRIDGE}"]
    Interfaces().undo(data, 5)
    assert list(Interfaces().remains(data)) == []
    assert not Path(f"/sys/class/net/{BRIDGE}").exists()


@pytest.mark.parametrize("alias", ["", "pytest-ai-how:aihowlease2", "the printer's"])
def test_a_bridge_of_somebody_else_stays(state: Path, alias: str) -> None:
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    try:
        if alias:
            run("ip", "link", "set", BRIDGE, "alias", alias)
        run("ip", "link", "set", BRIDGE, "up")
        data = {"name": BRIDGE, "cookie": COOKIE}
        Interfaces().undo(data, 5)
        assert Path(f"/sys/class/net/{BRIDGE}").exists()
        assert list(Interfaces().remains(data)) == []
    finally:
        run("ip", "link", "delete", BRIDGE)


def test_a_bridge_that_we_were_killed_at_before_marking_it_is_deleted(state: Path) -> None:
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    Interfaces().undo({"name": BRIDGE, "cookie": COOKIE}, 5)
    assert not Path(f"/sys/class/net/{BRIDGE}").exists()


# control groups


@pytest.mark.parametrize("hierarchy", hierarchies() if os.geteuid() == 0 else [], ids=str)
def test_groups_of_every_hierarchy_are_emptied_and_removed(state: Path, hierarchy: Path) -> None:
    top = hierarchy / COOKIE
    leaf = top / "node01" / "job"
    leaf.mkdir(parents=True)
    for group in (top, top / "node01", leaf):
        for key in ("cpuset.cpus", "cpuset.mems"):
            if (group / key).exists():
                (group / key).write_text((group.parent / key).read_text())
    process = subprocess.Popen(["sleep", "60"])
    try:
        (leaf / "cgroup.procs").write_text(str(process.pid))
        if (leaf / "freezer.state").exists():
            (leaf / "freezer.state").write_text("FROZEN")
        assert marked_cgroups(COOKIE) == [str(top)]
        data = {"path": str(top), "cookie": COOKIE}
        assert list(Cgroups().remains(data)) == [f"cgroup {top}"]
        Cgroups().undo(data, 5)
        assert not top.exists()
        assert process.wait(5) == -9
    finally:
        process.kill()
        process.wait(5)


# crashes

CRASH = """if True:
    import os, subprocess, sys, time
    from pathlib import Path
    from pytest_ai_how.lease.lease import Lease, Claim
    from pytest_ai_how.lease.state import cookie
    mark = cookie("aihowlease")
    lease = Lease.acquire("aihowlease", "crash", Claim("fake", "f"))
    journal = lease.journal.of("machines")
    def action():
        root = lease.state / "machines" / "root"
        journal.intend("directory", path=str(lease.state / "machines"))
        root.mkdir(parents=True)
        journal.intend("mount", target=str(root))
        subprocess.run(["mount", "-t", "tmpfs", "aihowlease", str(root)], check=True)
        journal.intend("bridge", name="aihowlease9", cookie=mark)
        subprocess.run(["ip", "link", "add", "aihowlease9", "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", "aihowlease9", "alias", mark], check=True)
        for hierarchy in sys.argv[1:]:
            group = Path(hierarchy) / mark
            journal.intend("cgroup", path=str(group), cookie=mark)
            group.mkdir()
        journal.intend("process", cookie=mark + "/node01")
        subprocess.Popen(["sleep", "600"], cwd=root, env={"AI_HOW": mark + "/node01"},
                         stdout=subprocess.DEVNULL, start_new_session=True)
        print("half", flush=True)
        time.sleep(600)
    lease.ensure("machines", "f", action)
"""


def crash() -> None:
    """Run a bring-up that is killed with SIGKILL in the middle of its step."""
    victim = subprocess.Popen(
        [sys.executable, "-c", CRASH, *map(str, hierarchies())], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "half\n"
    wait_for(lambda: marked(COOKIE), within=5, what="the process of the machine")
    victim.kill()
    victim.communicate(timeout=10)
    assert marked(COOKIE)


def test_reap_leaves_nothing_of_a_bring_up_that_was_killed(state: Path) -> None:
    crash()
    assert reap.status(NAME).condition == "orphan"
    assert reap.take_down(NAME, "reap") is True
    assert not state.exists()


def test_a_forced_reap_finds_it_all_without_record_and_journal(state: Path) -> None:
    crash()
    (state / "record.json").write_text("rubbish")
    (state / "journal.jsonl").write_text("rubbish\n")
    assert len(reap.force_down(NAME, "reap")) == 2
    assert not state.exists()


def test_the_next_run_undoes_the_half_step_and_does_it_again(state: Path) -> None:
    from pytest_ai_how.lease.lease import Claim, Lease

    crash()
    lease = Lease.acquire(NAME, "run2", Claim("fake", "f"))

    def action() -> dict[str, str]:
        assert [*mounts_below(state), *marked_interfaces(COOKIE), *marked_cgroups(COOKIE), *marked(COOKIE)] == []
        return {"made": "anew"}

    assert lease.ensure("machines", "f", action) == {"made": "anew"}
    lease.release()
    assert not state.exists()
