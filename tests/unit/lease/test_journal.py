from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from pytest_ai_how.errors import LeaseError, RecordError
from pytest_ai_how.lease.journal import Entry, Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    folder = tmp_path / "aihowlease"
    folder.mkdir()
    return Journal(folder / "journal.jsonl")


def test_what_is_intended_is_pending_until_it_is_undone(journal: Journal) -> None:
    assert journal.pending() == []
    bridge = journal.intend("bridge", name="br0")
    mount = journal.of("machines").intend("mount", target="/a b\nc")
    assert journal.pending() == [bridge, mount]
    assert mount == Entry("mount", {"target": "/a b\nc"}, "machines", mount.id)
    journal.undone(bridge)
    assert journal.pending() == [mount]


def test_it_is_private(journal: Journal) -> None:
    journal.intend("file", path="/x")
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_equal_things_are_told_apart(journal: Journal) -> None:
    first, second = journal.intend("mount", target="/x"), journal.intend("mount", target="/x")
    journal.undone(second)
    assert journal.pending() == [first]


@pytest.mark.parametrize("torn", [b'{"op": "inte', b'{"op": "undone", "id": "%s"}', b"\0\0\0"])
def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_writer(journal: Journal, torn: bytes) -> None:
    first = journal.intend("mount", target="/x")
    with journal.path.open("ab") as file:
        file.write(torn.replace(b"%s", first.id.encode()))
    assert journal.pending() == [first]
    second = journal.intend("mount", target="/y")
    assert journal.pending() == [first, second]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"rubbish", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"op": "forget", "id": "1"}', "not a journal line"),
        (b'{"op": "intend", "id": "1", "step": "", "kind": "mount", "data": {"n": 1}}', "not a journal line"),
        (b"[]", "not a journal line"),
        (b"", "not JSON"),
    ],
)
def test_a_corrupt_line_is_named_with_its_cure(journal: Journal, line: bytes, said: str) -> None:
    journal.intend("mount", target="/x")
    with journal.path.open("ab") as file:
        file.write(line + b"\n")
    journal.intend("mount", target="/y")
    with pytest.raises(RecordError) as caught:
        journal.pending()
    assert str(caught.value).startswith(f"{journal.path}:2: {said}")
    assert "pytest-ai-how reap --force aihowlease" in str(caught.value)


def test_nothing_is_promised_when_the_line_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LeaseError, match=r"cannot be written \(No such file"):
        Journal(tmp_path / "missing" / "journal.jsonl").intend("mount", target="/x")


def test_a_full_disk_is_an_error_before_the_deed() -> None:
    with pytest.raises(LeaseError, match=r"cannot be written \(No space left on device\); nothing was done"):
        Journal(Path("/dev/full")).intend("mount", target="/x")


def _write_many(path: Path, kind: str) -> None:
    journal = Journal(path)
    for number in range(20):
        entry = journal.intend(kind, number=str(number))
        if number % 2:
            journal.undone(entry)


def test_several_processes_write_at_once(journal: Journal) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(journal.path, f"kind{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    assert len(journal.pending()) == 30
    assert all(json.loads(line) for line in journal.path.read_text().splitlines())
