"""What the machine lacks is named with the command that cures it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from pytest_ai_how.cli.parser import main
from pytest_ai_how.errors import HostError
from pytest_ai_how.image import host
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.store import Store
from pytest_ai_how.progress import Silent


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "keyring.gpg"
    path.touch()
    return path


def test_no_root_names_the_step(monkeypatch: pytest.MonkeyPatch, keyring: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        HostError, match=r"building the node image needs root; this is uid 1000(.|\n)*do: sudo build it$"
    ):
        host.check_host("building the node image", "sudo build it", keyring=keyring)


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/venv/bin/python3")
    monkeypatch.delenv("AI_HOW_MIRROR", raising=False)


@pytest.mark.usefixtures("python")
def test_root_builds_what_is_missing_into_the_cache_of_who_asks(tmp_path: Path) -> None:
    (tmp_path / "pytest-ai-how").mkdir()
    assert host.as_root(tmp_path / "pytest-ai-how/images", ["vm", "base"], cluster=False) == (
        f"sudo env XDG_CACHE_HOME={tmp_path} /venv/bin/python3 -m pytest_ai_how images build vm base"
    )


@pytest.mark.usefixtures("python")
def test_a_cache_that_is_not_there_is_made_by_its_owner_and_all_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_HOW_MIRROR", "http://mirror/debian?a b")
    home = tmp_path / "my home"
    said = host.as_root(home / "pytest-ai-how/images", ["vm-beegfs"], cluster=True)
    assert said == (
        f"mkdir -p '{home}/pytest-ai-how' && "
        f"sudo env 'XDG_CACHE_HOME={home}' 'AI_HOW_MIRROR=http://mirror/debian?a b' "
        "/venv/bin/python3 -m pytest_ai_how images build vm-beegfs --cluster CONFIG"
    )


@pytest.mark.usefixtures("python")
def test_without_root_the_cure_names_all_that_is_missing(
    disk_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    store = Store(tmp_path / "pytest-ai-how/images")
    with pytest.raises(HostError) as caught:
        Builder(disk_source, store).ensure(["vm"], Silent())
    assert str(caught.value).startswith("localhost: building the node image needs root; this is uid 1000\n")
    assert caught.value.cure.endswith(
        f"sudo env XDG_CACHE_HOME={tmp_path} /venv/bin/python3 -m pytest_ai_how images build vm"
    ), "one that is built on demand, by its name; what it is made of comes with it"
    assert not store.folder.exists()


@pytest.mark.usefixtures("python")
def test_the_command_is_one_that_there_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = shlex.split(host.as_root(tmp_path / "pytest-ai-how/images", ["nosuch"], cluster=False).partition(" && ")[2])
    assert words[4:6] == ["-m", "pytest_ai_how"]
    assert main(words[6:]) != 0
    assert "no image is named 'nosuch'" in capsys.readouterr().err, "it was understood so far"


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch, keyring: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "mmdebstrap" else f"/bin/{name}")
    with pytest.raises(HostError, match=r"needs mmdebstrap, which is not installed\n  do: apt-get install mmdebstrap"):
        host.check_host("building the node image", "sudo build it", keyring=keyring)


def test_two_missing_tools_of_one_package_name_it_once(monkeypatch: pytest.MonkeyPatch, keyring: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name in {"unshare", "setpriv"} else f"/bin/{name}")
    with pytest.raises(
        HostError, match=r"unshare, setpriv, which are not installed\n  do: apt-get install util-linux$"
    ):
        host.check_host("x", "", keyring=keyring)


def test_a_missing_keyring_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(HostError, match=r"none\.gpg: x needs(.|\n)*do: apt-get install debian-archive-keyring"):
        host.check_host("x", "", keyring=tmp_path / "none.gpg")


def test_too_little_disk_names_path_free_and_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda folder: 100 * 2**20)
    with pytest.raises(
        HostError, match=r"100 MiB free, building the node image needs 3072 MiB(.|\n)*images prune"
    ) as caught:
        host.check_disk(tmp_path, 3 * 2**30, "building the node image")
    assert caught.value.where == str(tmp_path)


def test_enough_disk_is_no_error(tmp_path: Path) -> None:
    host.check_disk(tmp_path, 1, "x")
