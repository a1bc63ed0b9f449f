from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease import files
from pytest_ai_how.lease.files import Directories, Files, Mounts, mounts, remove_tree
from pytest_ai_how.lease.journal import Entry, Journal
from pytest_ai_how.lease.kernel import Cgroups, Interfaces
from pytest_ai_how.lease.processes import Processes, marked, process
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.lease.undo import undo_all

COOKIE = cookie("aihowlease") + f"/unit-{os.getpid()}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "aihowlease"
    folder.mkdir()
    return folder


@pytest.fixture
def journal(state: Path) -> Journal:
    return Journal(state / "journal.jsonl")


# the order and what remains


class Recorder:
    """Notes what it is asked; what is in ``stuck`` remains."""

    def __init__(self, kind: str, calls: list[str], stuck: tuple[str, ...] = ()) -> None:
        self.kind, self.calls, self.stuck = kind, calls, stuck

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        self.calls.append(f"undo {data['n']}")
        if data["n"] in self.stuck:
            raise LeaseError("node01", "device is busy")

    def remains(self, data: Mapping[str, str]) -> list[str]:
        return [f"{self.kind} {data['n']}"] if data["n"] in self.stuck else []


class Beginner(Recorder):
    def begin(self, data: Mapping[str, str]) -> None:
        self.calls.append(f"begin {data['n']}")


def test_all_begin_before_any_is_waited_for_and_the_last_made_goes_first(journal: Journal) -> None:
    calls: list[str] = []
    for kind, n in (("a", "1"), ("b", "2"), ("b", "3")):
        journal.intend(kind, n=n)
    undo_all(journal, [Recorder("a", calls), Beginner("b", calls)])
    assert calls == ["begin 3", "begin 2", "undo 3", "undo 2", "undo 1"]
    assert journal.pending() == []


def test_one_error_lists_all_that_remains_and_the_rest_is_undone(journal: Journal) -> None:
    calls: list[str] = []
    for n in "123":
        journal.intend("a", n=n)
    journal.intend("spell", n="4")
    with pytest.raises(LeaseError) as caught:
        undo_all(journal, [Recorder("a", calls, stuck=("1", "3"))])
    assert calls == ["undo 3", "undo 2", "undo 1"]
    assert [entry.data["n"] for entry in journal.pending()] == ["1", "3", "4"]
    assert str(caught.value).splitlines()[:4] == [
        "localhost: 3 parts of cluster 'aihowlease' remain:",
        "    spell n=4: this version does not know how to undo a 'spell'",
        "    a 3; node01: device is busy",
        "    a 1; node01: device is busy",
    ]


def test_undone_is_only_what_was_seen_to_be_gone(journal: Journal) -> None:
    """An undoer that claims success while the thing is still there is not believed."""
    journal.intend("a", n="1")
    liar = Recorder("a", [])
    liar.remains = lambda data: ["a 1 is still there"]  # type: ignore[method-assign]  # the lie of this test
    with pytest.raises(LeaseError, match="a 1 is still there"):
        undo_all(journal, [liar])
    assert len(journal.pending()) == 1


# processes


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for one in found:
        one.kill()
        one.wait(10)


def start(started: list[subprocess.Popen[bytes]], *argv: str, env: dict[str, str] | None = None) -> int:
    path = {"PATH": os.environ["PATH"]}
    started.append(subprocess.Popen(argv, env={**path, **(env or {})}, start_new_session=True))
    return started[-1].pid


def seen(mark: str, count: int) -> set[int]:
    wait_for(lambda: len(marked(mark)) == count, within=5, what=f"{count} marked processes")
    return {one.pid for one in marked(mark)}


def test_processes_are_found_by_arguments_and_environment(started: list[subprocess.Popen[bytes]]) -> None:
    by_env = start(started, "sleep", "60", env={"AI_HOW": COOKIE})
    by_argv = start(started, "sh", "-c", "sleep 60; true", COOKIE)
    start(started, "sleep", "60", env={"AI_HOW": COOKIE + "0"})
    assert seen(COOKIE, 2) == {by_env, by_argv}


def test_processes_end_and_zombies_count_as_gone(started: list[subprocess.Popen[bytes]]) -> None:
    pid = start(started, "sleep", "60", env={"AI_HOW": COOKIE})
    bystander = start(started, "sleep", "60")
    seen(COOKIE, 1)
    undoer = Processes()
    assert list(undoer.remains({"cookie": COOKIE})) == [f"process {pid} (sleep) with the mark {COOKIE}"]
    undoer.undo({"cookie": COOKIE}, 5)
    assert list(undoer.remains({"cookie": COOKIE})) == []
    assert Path(f"/proc/{pid}/stat").exists()  # nobody has reaped it yet
    assert process(pid) is None
    assert process(bystander) is not None
    undoer.undo({"cookie": COOKIE}, 5)


def test_who_ignores_sigterm_is_killed_side_by_side(
    started: list[subprocess.Popen[bytes]], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_ai_how.lease.processes.GRACE", 0.5)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    for n in range(3):
        mark = f"{COOKIE}-{n}"
        journal.intend("process", cookie=mark)
        one = subprocess.Popen([sys.executable, "-c", deaf, mark], stdout=subprocess.PIPE)
        started.append(one)
        assert one.stdout is not None
        assert one.stdout.readline() == b"1\n"
        one.stdout.close()
    begun = time.monotonic()
    undo_all(journal, [Processes()])
    assert 0.4 < time.monotonic() - begun < 1.4  # one period of grace, not three
    assert journal.pending() == []


def test_a_foreign_cookie_ends_nothing() -> None:
    for bad in ("", "sleep", "pytest"):
        with pytest.raises(LeaseError, match="without a cookie of ours"):
            Processes().undo({"cookie": bad}, 1)


def test_this_process_and_its_parents_are_never_found(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"from pytest_ai_how.lease.processes import marked; print(marked({COOKIE!r}))"
    found = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', COOKIE, sys.executable, "-c", script, COOKIE],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "()\n"


# files


def test_directories_are_removed_without_following_links(state: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    inside = state / "machines"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    undoer = Directories(state)
    assert list(undoer.remains({"path": str(inside)})) == [f"directory {inside}"]
    undoer.undo({"path": str(inside)}, 5)
    assert list(undoer.remains({"path": str(inside)})) == []
    assert (outside / "precious").exists()
    undoer.undo({"path": str(inside)}, 5)


@pytest.mark.parametrize("kind", [Directories, Files, Mounts])
@pytest.mark.parametrize("path", ["/etc", "{state}", "{state}/../x", "relative", "{state}/link/x", "/"])
def test_nothing_outside_the_state_folder_is_touched(state: Path, tmp_path: Path, kind: type, path: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").mkdir()
    (state / "link").symlink_to(tmp_path / "outside")
    where = path.replace("{state}", str(state))
    with pytest.raises(LeaseError, match="not touched: it is not in the cluster's state folder"):
        kind(state).undo({"path": where, "target": where}, 1)
    assert (tmp_path / "outside" / "x").exists()


def test_a_link_in_the_place_of_a_folder_is_not_followed(state: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (state / "machines").symlink_to(tmp_path / "outside")
    with pytest.raises(LeaseError, match="is a symbolic link where a folder was made"):
        Directories(state).undo({"path": str(state / "machines")}, 1)
    assert (tmp_path / "outside").is_dir()


def test_files_and_links_are_removed_themselves(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    (state / "link").symlink_to(target)
    Files(state).undo({"path": str(state / "link")}, 1)
    assert not os.path.lexists(state / "link")
    assert target.exists()
    Files(state).undo({"path": str(state / "link")}, 1)


def test_a_state_home_behind_a_link_is_ours_too(state: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path)
    aliased = tmp_path / "alias" / "aihowlease"
    (state / "machines").mkdir()
    Directories(aliased).undo({"path": str(aliased / "machines")}, 1)
    assert not (state / "machines").exists()


def test_a_tree_with_a_mount_in_it_is_not_removed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "root").mkdir()
    monkeypatch.setattr(files, "mounts", lambda: (files.Mount(str(state / "root"), "overlay"),))
    with pytest.raises(LeaseError, match=f"not removed: {state}/root is mounted"):
        remove_tree(state)
    assert (state / "root").is_dir()


def test_the_mount_table_is_read_as_proc_5_says(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(  # Linux 6.1, with a made-up blank and backslash
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "36 35 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"
        r"90 22 0:51 / /a\040b\134c rw,relatime - overlay o rw,lowerdir=/l" + "\n"
    )
    assert [(one.target, one.kind) for one in mounts(table)] == [
        ("/", "ext4"),
        ("/sys/fs/cgroup/cpu", "cgroup"),
        ("/a b\\c", "overlay"),
    ]


# the kernel's


def test_interfaces_of_others_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    data = {"name": "lo", "cookie": cookie("aihowlease")}
    Interfaces().undo(data, 5)
    assert "interface lo is not ours" in caplog.text
    assert list(Interfaces().remains(data)) == []
    assert Path("/sys/class/net/lo").exists()


def test_an_interface_that_is_gone_is_no_error() -> None:
    Interfaces().undo({"name": "aihowlease9", "cookie": cookie("aihowlease")}, 5)
    with pytest.raises(LeaseError, match="not an interface name"):
        Interfaces().undo({"name": "../x", "cookie": cookie("aihowlease")}, 5)


@pytest.mark.parametrize(
    "path", ["/tmp", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/other", "/sys/fs/cgroup/../x"]
)
def test_groups_of_others_are_left_alone(path: str) -> None:
    with pytest.raises(LeaseError, match="no control group with our mark"):
        Cgroups().undo({"path": path, "cookie": cookie("aihowlease")}, 1)


def test_an_entry_is_described() -> None:
    from pytest_ai_how.lease.undo import describe

    assert describe(Entry("mount", {"target": "/x"})) == "mount target=/x"
