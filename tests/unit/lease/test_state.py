from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_ai_how.errors import LeaseError
from pytest_ai_how.lease.state import cache_home, carries, cluster_state, cookie, private_folder, state_home


def test_xdg_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert state_home() == tmp_path / "s/pytest-ai-how"
    assert cache_home() == tmp_path / "c/pytest-ai-how"
    assert cluster_state("local") == tmp_path / "s/pytest-ai-how/local"


@pytest.mark.parametrize("value", [None, "", "relative/path", "~/x"])
def test_relative_values_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert state_home() == tmp_path / ".local/state/pytest-ai-how"
    assert cache_home() == tmp_path / ".cache/pytest-ai-how"


@pytest.mark.parametrize("name", ["", "..", "a/b", "Local", "a\n", "; rm -rf /", "$(id)", "x" * 300, "-a", "a-"])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(LeaseError, match="not a cluster name"):
        cluster_state(name)


def test_a_cookie_is_found_as_a_whole_only() -> None:
    mark = cookie("local")
    assert mark == "pytest-ai-how:local"
    assert carries("init\0pytest-ai-how:local\0x", mark)
    assert carries("AIHOW=pytest-ai-how:local/node01", mark)
    assert not carries("pytest-ai-how:local2", mark)
    assert not carries("pytest-ai-how:local-b", mark)
    assert not carries("my-pytest-ai-how:local", mark)


def test_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert private_folder(folder) == folder
    folder.chmod(0o755)
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_private_folder_refuses_links_files_and_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LeaseError, match="is a symbolic link"):
        private_folder(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(LeaseError, match="is not a folder"):
        private_folder(tmp_path / "file")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(LeaseError, match=f"belongs to uid {mine}"):
        private_folder(tmp_path / "other")
