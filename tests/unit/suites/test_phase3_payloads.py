"""The programs that phase 3 sends to nodes do here, on a file system that is right, what the checks read from them."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.deadline import wait_for
from suites.phase3._payloads import payload
from suites.phase3.test_semantics import POSIX, missing_records


def start(name: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", payload(name), *map(str, args)], stdout=subprocess.PIPE, text=True)


def run(name: str, *args: object) -> Any:
    process = start(name, *args)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(out)


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_posix(tmp_path: Path) -> None:
    assert run("posix.py", tmp_path) == POSIX
    assert [path.name for path in tmp_path.iterdir()] == ["hard"]


@pytest.mark.parametrize("what", ["append", "flock", "lockf"])
def test_together(tmp_path: Path, what: str) -> None:
    (tmp_path / "number").write_text("0")
    both = [start("together.py", what, tmp_path, name, 2, 50) for name in ("a", "b")]
    for process in both:
        assert json.loads(process.communicate(timeout=60)[0])["times"] == 50
    if what == "append":
        assert missing_records((tmp_path / "records").read_text(), ("a", "b"), 50) == []
    else:
        assert (tmp_path / "number").read_text() == "100"


def test_extended_attributes_or_why_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    seen = run("xattr.py", tmp_path / "file", "right")
    assert seen in ({"value": "right", "names": ["user.ai_how"]}, {"error": "EOPNOTSUPP"})
    if "value" in seen:
        assert run("xattr.py", tmp_path / "file") == seen
    assert run("xattr.py", tmp_path / "none") == {"error": "ENOENT"}


def test_a_stream_is_written_verified_and_found_damaged(tmp_path: Path) -> None:
    blocks = tmp_path / "blocks"
    blocks.mkdir()
    logs = {role: tmp_path / f"{role}.log" for role in ("write", "verify")}
    stop = tmp_path / "stop"
    running = [
        start("stream_write.py", blocks, logs["write"], stop, 4096, 0.01),
        start("stream_verify.py", blocks, logs["verify"], stop),
    ]
    try:
        wait_for(lambda: logs["verify"].exists() and logs["verify"].read_text().count("\n") > 3, within=20, what="read")
    finally:
        stop.touch()
        for process in running:
            process.communicate(timeout=20)
    said = [json.loads(line) for role in logs for line in logs[role].read_text().splitlines()]
    assert all(line["error"] == "" for line in said)
    found = sorted(path for path in blocks.iterdir() if not path.name.startswith("."))
    assert run("stream_verify.py", blocks) == {"blocks": len(found), "wrong": {}}
    found[1].write_bytes(b"x" * 4096)
    digest = hashlib.sha256(b"x" * 4096).hexdigest()
    assert run("stream_verify.py", blocks)["wrong"] == {found[1].name: f"sha256 {digest}"}


def test_a_stream_goes_on_after_an_error(tmp_path: Path) -> None:
    log, stop, blocks = tmp_path / "log", tmp_path / "stop", tmp_path / "blocks"
    process = start("stream_write.py", blocks, log, stop, 4096, 0.01)
    try:
        wait_for(lambda: log.exists() and "ENOENT" in log.read_text(), within=20, what="refused")
        blocks.mkdir()
        wait_for(lambda: '"error": ""' in log.read_text(), within=20, what="writing")
    finally:
        stop.touch()
        process.communicate(timeout=20)


def test_known_blocks_are_written_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert run("fill.py", path, 2) == {"blocks": 2, "error": ""}
    assert run("fill.py", path, 2, "read") == {"blocks": 2, "error": ""}
    with path.open("r+b") as file:
        file.seek(2**20 + 5)
        file.write(b"damage")
    assert run("fill.py", path, 2, "read") == {"blocks": 1, "error": "block 1 is not what was written"}
    assert run("fill.py", "/dev/full", 1) == {"blocks": 0, "error": "ENOSPC"}


@pytest.mark.parametrize("packed", [False, True])
def test_a_module_gets_another_version_magic(tmp_path: Path, packed: bool) -> None:
    content = b"ELF" + b"\0" * 5000 + b"vermagic=6.12.57 SMP \0rest"
    source = tmp_path / ("beegfs.ko.xz" if packed else "beegfs.ko")
    source.write_bytes(lzma.compress(content) if packed else content)
    copy = tmp_path / "copy"
    assert run("alter_module.py", source, copy, "vermagic=6.12.57 ", "vermagic=0.12.57 ") == {"replaced": 1}
    altered = lzma.decompress(copy.read_bytes()) if packed else copy.read_bytes()
    assert altered == content.replace(b"6.12.57", b"0.12.57")
