from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.errors import LeaseError, RecordError
from pytest_ai_how.lease.record import Claim, Step, new_record, read_record, write_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "aihowlease"
    folder.mkdir()
    return folder / "record.json"


def test_it_is_read_as_it_was_written(path: Path) -> None:
    assert read_record(path) is None
    step = Step("f", "failed", "run1", "stamp", {"a": "b"}, "node01: is down", 1.5)
    record = new_record("run1", Claim("nspawn", "f", {"nodes": [{"name": "n"}]})).with_step("slurm", step)
    record = record.with_fault("test_it.py::test_break")
    write_record(path, record)
    assert read_record(path) == record
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]
    assert record.same_boot
    assert not replace(record, boot="x").same_boot


def test_one_that_was_written_before_there_were_faults_has_none(path: Path) -> None:
    record = new_record("run1", Claim())
    write_record(path, record)
    told = json.loads(path.read_text())
    assert told.pop("faults") == []
    path.write_text(json.dumps(told))
    assert read_record(path) == record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "not a record: the file: Invalid JSON"),
        (lambda text: text[: len(text) // 2], "not a record: the file: Invalid JSON"),
        (lambda text: "[]", "not a record: the file: Input should be an object"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "not a record: version: Input should be 1"),
        (lambda text: text.replace('"kept"', '"kopt"'), "not a record: kopt: Unexpected keyword"),
        (lambda text: text.replace('"pid": ', '"pid": "x'), "not a record"),
        (lambda text: text.replace('"done"', '"maybe"'), "not a record: steps.ssh.state: Input should be 'done'"),
    ],
)
def test_a_corrupt_record_is_named_with_its_cure(path: Path, change: object, said: str) -> None:
    write_record(path, new_record("r", Claim()).with_step("ssh", Step("f", "done", "r", "s")))
    changed = change(path.read_text())  # type: ignore[operator]  # a function of the table above
    path.write_text(changed)
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}:1: {said}")
    assert "pytest-ai-how reap --force aihowlease" in str(caught.value)


def test_binary_rubbish_is_named_too(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=r"record\.json:1: "):
        read_record(path)


def test_a_full_disk_keeps_the_old_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(path, new_record("old", Claim()))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LeaseError, match="cannot be written .No space left on device."):
        write_record(path, new_record("new", Claim()))
    kept = read_record(path)
    assert kept is not None
    assert kept.run == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]
