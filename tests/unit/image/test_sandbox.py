"""What commands of a build are told of this machine, and where their temporary files lie."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image import build
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Store
from pytest_ai_how.progress import Silent


class Recorded(Sandbox):
    """A sandbox that keeps each command's environment and runs nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.environments: list[Mapping[str, str]] = []

    def _start(self, argv: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        started = super()._start(("true",), env)
        self.environments.append(env)
        return started


@pytest.fixture(autouse=True)
def no_temporary_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)


def test_temporary_files_lie_where_they_are_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/of/the/user")
    sandbox = Recorded()
    kept = sandbox.keeping(tmp_path / "tmp")
    kept.run(["mmdebstrap"])
    sandbox.run(["mke2fs"])
    assert [env["TMPDIR"] for env in sandbox.environments] == [str(tmp_path / "tmp"), "/of/the/user"]
    assert (tmp_path / "tmp").stat().st_mode & 0o777 == 0o700


def test_in_a_root_this_machines_folders_are_not_named(tmp_path: Path) -> None:
    sandbox = Recorded()
    sandbox.keeping(tmp_path / "tmp").run(["dpkg", "--configure", "-a"], root=tmp_path)
    assert "TMPDIR" not in sandbox.environments[0]


def test_one_that_keeps_ends_with_the_other(tmp_path: Path) -> None:
    sandbox = Recorded()
    kept = sandbox.keeping(tmp_path / "tmp")
    sandbox.kill()
    with pytest.raises(ImageError, match="interrupted"):
        kept.run(["mmdebstrap"])
    assert sandbox.environments == [], "nothing was begun"


def test_a_build_keeps_temporary_files_in_its_own_folder(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox, builder = Recorded(), Builder(source, Store(tmp_path / "images"), "http://mirror.example.org/debian")

    def stop(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(build, "customize", stop)
    with builder.store.lock("node", lambda: None), builder.store.building("node", builder.digest("node")) as place:
        with pytest.raises(ZeroDivisionError):
            builder._build(source.define("node"), place, None, sandbox, Silent())
        assert [env["TMPDIR"] for env in sandbox.environments] == [str(place / "tmp")]
        assert (place / "tmp").is_dir()
    assert [path.name for path in builder.store.folder.iterdir()] == [".lock-node"]


def test_the_umask_of_who_builds_is_in_nothing_that_commands_make(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        # What _start is asked to run is all of it here: no mount namespace, for which root would be needed.
        with Sandbox() as sandbox:
            made = sandbox._start(
                ("sh", "-c", 'mkdir "$1" && touch "$1/file"', "sh", str(tmp_path / "made")), os.environ
            )
            made.communicate()
            sandbox._end(made)
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "made/file").stat().st_mode & 0o777 == 0o644
