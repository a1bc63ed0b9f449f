"""One root gives one SIF: the moment and the chance of its making are in none of its parts."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.sif import build_date, convert, label
from pytest_ai_how.image.sif_file import parts, settle
from pytest_ai_how.shell import Result
from tests.unit.image.sif_samples import DESCRIPTOR, HEADER, write_sif

EPOCH = 1767225600


def test_two_that_were_made_at_other_moments_become_the_same(tmp_path: Path) -> None:
    one, other = write_sif(tmp_path / "one.sif", number=1), write_sif(tmp_path / "two.sif", made=1234, number=2)
    assert one.read_bytes() != other.read_bytes()
    settle(one, EPOCH)
    settle(other, EPOCH)
    assert one.read_bytes() == other.read_bytes()


def test_what_is_in_it_stays_and_tells_its_uuid(tmp_path: Path) -> None:
    """By offsets in the file, which are Apptainer's: UUID at 48, times at 64, a descriptor's at 41 from its begin."""
    one, other = write_sif(tmp_path / "one.sif"), write_sif(tmp_path / "two.sif", data=b'{"a": 2}\n')
    before = one.read_bytes()
    settle(one, EPOCH)
    settle(other, EPOCH)
    after, stamps = one.read_bytes(), struct.pack("<qq", EPOCH, EPOCH)
    assert after[48:64] != other.read_bytes()[48:64], "two that hold other things have the same UUID"
    assert uuid.UUID(bytes=after[48:64]).version == 5
    assert after[64:80] == after[4096 + 41 : 4096 + 57] == stamps
    assert after[:48] == before[:48]
    assert after[80 : 4096 + 41] == before[80 : 4096 + 41]
    # The free descriptor has no times, and gets none.
    assert after[4096 + 57 :] == before[4096 + 57 :]
    assert len(DESCRIPTOR) == 585


def test_its_parts_are_told_in_words(tmp_path: Path) -> None:
    found = parts(write_sif(tmp_path / "one.sif", number=7))
    assert found["UUID"] == str(uuid.UUID(int=7))
    assert found["times"] == found["times of object 1"] == "1795812001 1795812001"
    # sha256sum
    assert found["object 1 (inspect-metadata.json)"].startswith("e8c628ed")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#!/bin/sh\n", r"begins with b''\n  expected: a SIF of version 01, as Apptainer 1 makes"),
        (HEADER.replace(b"SIF_MAGIC", b"NO_MAGIC!"), r"begins with b'NO_MAGIC!\\x0001\\x00'\n  expected: a SIF of ver"),
        (
            HEADER.replace(b"C\x0001\0", b"C\x0002\0"),
            r"begins with b'SIF_MAGIC\\x0002\\x00'\n  expected: a SIF of vers",
        ),
        (HEADER, r"its 2 descriptors have 0 bytes\n  expected: 585 bytes each, as in a SIF of version 01"),
    ],
)
def test_another_format_is_refused_and_left_alone(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "other.sif"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=rf"other\.sif: {said}"):
        settle(file, EPOCH)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        # Apptainer pads nothing: internal/pkg/build/metadata.go
        (EPOCH, "Thursday_1_January_2026_0:0:0_UTC"),
        (1795739345, "Friday_27_November_2026_0:29:5_UTC"),
    ],
)
def test_a_moment_is_told_as_apptainer_does(epoch: int, text: str) -> None:
    assert build_date(epoch) == text


class Apptainer(Sandbox):
    """A sandbox in which Apptainer makes a SIF, or says why not."""

    def __init__(self, place: Path, said: str = "") -> None:
        super().__init__()
        self.place, self.said = place, said
        self.argv, self.definition = tuple[str, ...](), ""

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **_: Any) -> Result:
        self.argv, self.definition = tuple(argv), (self.place / argv[-2]).read_text()
        if self.said:
            raise CommandError(Result(self.argv, 255, self.said))
        write_sif(self.place / argv[-3])
        return Result(self.argv, 0)


def test_it_is_made_with_nothing_of_the_moment(tmp_path: Path) -> None:
    sandbox = Apptainer(tmp_path)
    made = convert(Path("/node"), tmp_path, "box", EPOCH, sandbox)
    assert made == tmp_path / "box.sif"
    assert sandbox.argv[-3:] == ("box.sif", "work/box.def", str(EPOCH))
    assert 'TZ=UTC SOURCE_DATE_EPOCH="$6"' in sandbox.argv[3]
    assert 'apptainer build --force --mksquashfs-args "-comp zstd ' in sandbox.argv[3]
    assert sandbox.definition == (
        "bootstrap: localimage\nfrom: /mnt/root\n\n"
        "%labels\n    org.label-schema.build-date Thursday_1_January_2026_0:0:0_UTC\n"
    )
    assert parts(made)["times"] == f"{EPOCH} {EPOCH}"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("FATAL: While performing build: no", r"^box image: apptainer could not make a SIF of it: FATAL: While perf"),
        ("write: No space left on device", "the disk filled up during the build of the box image"),
    ],
)
def test_what_apptainer_says_is_passed_on(said: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=told):
        convert(Path("/node"), tmp_path, "box", EPOCH, Apptainer(tmp_path, said))


def test_labels_are_for_every_account_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        label(tmp_path, {"b": "2", "a": "1"})
    finally:
        os.umask(before)
    file = tmp_path / ".singularity.d/labels.json"
    assert file.read_text() == '{\n "a": "1",\n "b": "2"\n}\n'
    assert (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o755, 0o644)
