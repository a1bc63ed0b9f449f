"""A folder at a place of the user's choice: new, marked, and the only thing there that is ever removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.errors import HostError, LeaseError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.scratch import MARK, Scratch, make_scratch, refuse_scratch
from pytest_ai_how.lease.undo import undo_all

TOKEN = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def data(path: Path, token: str = TOKEN) -> dict[str, str]:
    return {"path": str(path), "token": token}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "scratch"


def test_a_folder_is_made_and_removed_with_all_that_is_in_it(place: Path) -> None:
    make_scratch(place, TOKEN, 0o700)
    assert place.stat().st_mode & 0o7777 == 0o700
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "file").write_text("x")
    (place / "link").symlink_to(place.parent)
    assert list(Scratch().remains(data(place))) == [f"folder {place}"]
    Scratch().undo(data(place), 5)
    assert list(place.parent.iterdir()) == []
    assert list(Scratch().remains(data(place))) == []
    Scratch().undo(data(place), 5)  # again: gone already


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_is_refused_and_never_touched(place: Path, kind: str) -> None:
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("/nowhere")
    with pytest.raises(HostError, match="exists already") as caught:
        make_scratch(place, TOKEN, 0o700)
    assert caught.value.where == str(place)
    assert "pytest-ai-how reap" in caught.value.cure
    Scratch().undo(data(place), 5)
    assert [one.name for one in place.parent.iterdir()] == ["scratch"]


def test_a_folder_of_the_same_name_that_is_not_ours_stays(place: Path) -> None:
    make_scratch(place, OTHER, 0o700)
    (place / "precious").write_text("x")
    Scratch().undo(data(place), 5)
    assert (place / "precious").exists()
    (place / MARK).unlink()
    Scratch().undo(data(place, OTHER), 5)
    assert (place / "precious").exists()


def test_a_link_to_our_folder_is_not_followed(place: Path) -> None:
    real = place.with_name("real")
    make_scratch(real, TOKEN, 0o700)
    place.symlink_to(real)
    Scratch().undo(data(place), 5)
    assert (real / MARK).exists()


def test_what_a_kill_left_half_made_is_removed(place: Path) -> None:
    half = place.with_name(f".scratch.{TOKEN}")
    half.mkdir()
    assert list(Scratch().remains(data(place))) == [f"folder {half}"]
    Scratch().undo(data(place), 5)
    assert not half.exists()


@pytest.mark.parametrize("path", ["relative/place", "/var/tmp/../x"])
def test_a_place_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(LeaseError, match="not touched"):
        Scratch().undo({"path": path, "token": TOKEN}, 5)


def test_a_word_that_is_none_is_refused(place: Path) -> None:
    with pytest.raises(LeaseError, match="not touched"):
        Scratch().undo({"path": str(place), "token": "../.."}, 5)


def test_a_place_without_its_folder_above_is_named(place: Path) -> None:
    with pytest.raises(HostError, match="no such folder") as caught:
        refuse_scratch(place / "deeper")
    assert caught.value.where == str(place)
    assert f"mkdir -p {place}" in caught.value.cure


def test_a_place_behind_a_link_is_refused(place: Path) -> None:
    place.with_name("real").mkdir()
    place.symlink_to(place.with_name("real"))
    with pytest.raises(HostError, match="through a link"):
        refuse_scratch(place / "deeper")


def test_the_journal_undoes_it(place: Path, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.intend(Scratch.kind, **data(place))
    make_scratch(place, TOKEN, 0o1777)
    undo_all(journal, [Scratch()])
    assert not place.exists()
    assert journal.pending() == []
