"""Archives are what cpio(1) reads (GNU cpio 2.13), and equal for equal entries."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pytest_ai_how.image.cpio import Entry, archive, file, folder

pytestmark = pytest.mark.skipif(shutil.which("cpio") is None, reason="reads what was written with cpio")


def listed(content: bytes) -> list[tuple[str, str, str, str]]:
    """Mode, owner, group and name of what is in it."""
    argv = ["cpio", "--list", "--verbose", "--numeric-uid-gid", "--quiet"]
    said = subprocess.run(argv, input=content, check=True, capture_output=True).stdout.decode()
    rows = [line.split() for line in said.splitlines()]
    # of a device there is a number more: "5, 1" in place of the size
    return [(row[0], row[2], row[3], " ".join(row[9 if row[0][0] == "c" else 8 :])) for row in rows]


def test_owners_modes_links_and_devices() -> None:
    content = archive(
        {
            "/seed/etc/munge/munge.key": file(b"key", 0o400, 101, 102),
            "/seed/home/hpc": Entry(0o40700, uid=1000, gid=1000),
            "/init": file(b"#!/bin/sh\n", 0o755),
            "/bin": Entry(0o120777, b"usr/bin"),
            "/dev/console": Entry(0o20600, device=(5, 1)),
        }
    )
    assert len(content) % 512 == 0
    assert listed(content) == [
        ("lrwxrwxrwx", "0", "0", "bin -> usr/bin"),
        ("drwxr-xr-x", "0", "0", "dev"),
        ("crw-------", "0", "0", "dev/console"),
        ("-rwxr-xr-x", "0", "0", "init"),
        ("drwxr-xr-x", "0", "0", "seed"),
        ("drwxr-xr-x", "0", "0", "seed/etc"),
        ("drwxr-xr-x", "0", "0", "seed/etc/munge"),
        ("-r--------", "101", "102", "seed/etc/munge/munge.key"),
        ("drwxr-xr-x", "0", "0", "seed/home"),
        ("drwx------", "1000", "1000", "seed/home/hpc"),
    ]


def test_content_of_any_length_comes_back() -> None:
    for length in range(9):
        content = archive({"/f": file(b"x" * length), "/g": file(b"end")})
        said = subprocess.run(["cpio", "-i", "--to-stdout", "--quiet"], input=content, check=True, capture_output=True)
        assert said.stdout == b"x" * length + b"end"


def test_equal_entries_give_equal_bytes() -> None:
    entries = {"/b": file(b"1"), "/a/c": file(b"2")}
    assert archive(entries) == archive(dict(reversed(entries.items())))


def test_a_folder_that_is_named_keeps_its_own_mode() -> None:
    assert listed(archive({"/a": folder(0o700), "/a/b": file(b"")}))[0] == ("drwx------", "0", "0", "a")
