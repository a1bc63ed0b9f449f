from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.errors import ClusterInUse, RecordError
from pytest_ai_how.lease import reap
from pytest_ai_how.lease.lease import Claim, Lease
from pytest_ai_how.lease.state import cookie

NAME = f"aihowlease-{os.getpid()}"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], env={"AI_HOW": cookie(NAME) + "/node01"})
    yield process
    process.kill()
    process.wait(10)


@pytest.fixture
def orphan(sleeper: subprocess.Popen[bytes]) -> Lease:
    """A cluster whose owner is gone, with a folder and a process."""
    lease = Lease.acquire(NAME, "run1", Claim("fake", "f", {}))
    lease.journal.intend("directory", path=str(lease.state / "machines"))
    (lease.state / "machines").mkdir()
    lease.journal.intend("process", cookie=cookie(NAME) + "/node01")
    lease.close()
    return lease


def test_the_conditions_that_a_cluster_can_be_in(orphan: Lease) -> None:
    assert reap.clusters() == [NAME]
    assert reap.status(NAME).condition == "orphan"
    assert [entry.kind for entry in reap.status(NAME).pending] == ["directory", "process"]
    owner = Lease.acquire(NAME, "run2", Claim("fake", "f", {}))
    assert reap.status(NAME).condition == "in use"
    assert reap.status(NAME).owner.run == "run2"  # type: ignore[union-attr]  # asserted by the line above
    with pytest.raises(ClusterInUse):
        reap.take_down(NAME, "reap")
    owner.release("always")
    assert reap.status(NAME).condition == "kept"
    (owner.state / "record.json").write_text("[]")
    assert reap.status(NAME).condition == "unreadable"
    reap.force_down(NAME, "reap")


def test_an_orphan_is_taken_down(orphan: Lease, sleeper: subprocess.Popen[bytes], home: Path) -> None:
    assert reap.take_down(NAME, "reap") is True
    assert sleeper.wait(5) == -15
    assert list(home.iterdir()) == []
    assert reap.take_down(NAME, "reap") is False


@pytest.mark.parametrize("broken", ["record.json", "journal.jsonl"])
def test_unreadable_files_are_set_aside_after_all_is_gone(
    orphan: Lease, sleeper: subprocess.Popen[bytes], home: Path, broken: str
) -> None:
    path = orphan.state / broken
    content = "rubbish\n" + path.read_text()
    path.write_text(content)
    with pytest.raises(RecordError, match=f"reap --force {NAME}"):
        reap.take_down(NAME, "reap")
    (aside,) = reap.force_down(NAME, "reap")
    assert sleeper.wait(5) == -15
    assert aside.parent == home / ".aside"
    assert aside.read_text().startswith(content)  # a forced clean-up writes what it undid behind it
    assert not orphan.state.exists()
    assert reap.clusters() == []


def test_a_lost_journal_is_made_up_for_by_the_mark(orphan: Lease, sleeper: subprocess.Popen[bytes]) -> None:
    (orphan.state / "journal.jsonl").write_bytes(b"\0" * 100 + b"\n")
    (orphan.state / "record.json").write_text("")
    assert len(reap.force_down(NAME, "reap")) == 2
    assert sleeper.wait(5) == -15
    assert not orphan.state.exists()


def test_even_a_lost_folder_is_made_up_for(sleeper: subprocess.Popen[bytes], home: Path) -> None:
    assert reap.force_down(NAME, "reap") == []
    assert sleeper.wait(5) == -15
    assert list(home.iterdir()) == []


def test_half_removed_folders_are_no_clusters_and_are_removed(home: Path) -> None:
    half = home / f".{NAME}.0123abcd.gone"
    half.mkdir(parents=True)
    (half / "record.json").touch()
    assert reap.clusters() == []
    assert reap.remove_halves() == [half]
    assert list(home.iterdir()) == []
