"""The mirror is the machine's own, in either of apt's formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_ai_how.errors import HostError
from pytest_ai_how.image.mirror import AptSource, find_mirror, parse_deb822, parse_one_line

DATA = Path(__file__).parents[2] / "data/image/apt"


def test_one_line_format() -> None:
    assert list(parse_one_line((DATA / "sources.list").read_text())) == [
        AptSource("https://apt.vendor.example.org/sdk", ("sdk-bookworm",), ("main",)),
        AptSource("http://mirror.example.org/debian/", ("bookworm",), ("main", "contrib")),
    ]


def test_deb822_format() -> None:
    both = ("trixie", "trixie-updates")
    assert list(parse_deb822((DATA / "sources.list.d/debian.sources").read_text())) == [
        AptSource("http://deb822.example.org/debian", both, ("main", "contrib")),
        AptSource("http://second.example.org/debian", both, ("main", "contrib")),
    ]


def test_vendors_and_sources_are_passed_over() -> None:
    assert find_mirror(DATA, {}) == "http://mirror.example.org/debian"


def test_deb822_is_found_when_there_is_no_list(tmp_path: Path) -> None:
    shutil.copytree(DATA / "sources.list.d", tmp_path / "sources.list.d")
    assert find_mirror(tmp_path, {}) == "http://deb822.example.org/debian"


def test_a_mirror_file_of_a_cloud_image_is_followed(tmp_path: Path) -> None:
    listed = tmp_path / "mirrors.list"
    listed.write_text("# near ones first\nhttps://cloud.example.org/debian\n")
    (tmp_path / "sources.list").write_text(f"deb mirror+file:{listed} trixie main\n")
    assert find_mirror(tmp_path, {}) == "https://cloud.example.org/debian"


def test_the_variable_wins() -> None:
    assert find_mirror(DATA, {"AI_HOW_MIRROR": "http://127.0.0.1:9/debian/"}) == "http://127.0.0.1:9/debian"


@pytest.mark.parametrize("value", ["mirror.example.org", "ftp://mirror.example.org", "http://a b", "http://x\ny"])
def test_a_variable_that_is_no_uri_is_refused(value: str) -> None:
    with pytest.raises(HostError, match=r"AI_HOW_MIRROR: is '.*'\n  expected: a URI"):
        find_mirror(DATA, {"AI_HOW_MIRROR": value})


def test_no_mirror_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://ubuntu.example.org/ubuntu noble main\n")
    with pytest.raises(HostError, match=r"no source of a Debian suite's 'main'(.|\n)*do: set AI_HOW_MIRROR"):
        find_mirror(tmp_path, {})
