"""What the machine lacks is named with the command that cures it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pytest_ai_how.errors import HostError
from pytest_ai_how.image import host


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "keyring.gpg"
    path.touch()
    return path


def test_no_root_names_the_step(monkeypatch: pytest.MonkeyPatch, keyring: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match=r"building the node image needs root; this is uid 1000(.|\n)*as root"):
        host.check_host("building the node image", keyring=keyring)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch, keyring: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "mmdebstrap" else f"/bin/{name}")
    with pytest.raises(HostError, match=r"needs mmdebstrap, which is not installed\n  do: apt-get install mmdebstrap"):
        host.check_host("building the node image", keyring=keyring)


def test_two_missing_tools_of_one_package_name_it_once(monkeypatch: pytest.MonkeyPatch, keyring: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name in {"unshare", "setpriv"} else f"/bin/{name}")
    with pytest.raises(
        HostError, match=r"unshare, setpriv, which are not installed\n  do: apt-get install util-linux$"
    ):
        host.check_host("x", keyring=keyring)


def test_a_missing_keyring_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(HostError, match=r"none\.gpg: x needs(.|\n)*do: apt-get install debian-archive-keyring"):
        host.check_host("x", keyring=tmp_path / "none.gpg")


def test_too_little_disk_names_path_free_and_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda folder: 100 * 2**20)
    with pytest.raises(
        HostError, match=r"100 MiB free, building the node image needs 3072 MiB(.|\n)*images prune"
    ) as caught:
        host.check_disk(tmp_path, 3 * 2**30, "building the node image")
    assert caught.value.where == str(tmp_path)


def test_enough_disk_is_no_error(tmp_path: Path) -> None:
    host.check_disk(tmp_path, 1, "x")
