"""Data sets of ``--scale=full`` get from the cache to where jobs read them, whatever their size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_ai_how.data import Cache, DataSet, File
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.launch.direct import DirectLauncher
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.node import Node
from pytest_ai_how.transport.command import OUTPUT_LIMIT
from pytest_ai_how.transport.local import LocalTransport
from suites.mlops import _data
from tests.fakes import fake_cluster

#: CIFAR-10's archive has 162 MiB, SmolLM's weights 513; this is more than a command may say.
LARGE = bytes(OUTPUT_LIMIT + 2**20)


def from_package(file: File, path: str) -> None:
    raise AssertionError(f"{file.name} is in the cache; nothing is to be taken from a package into {path}")


@pytest.fixture
def launcher(tmp_path: Path) -> DirectLauncher:
    """Jobs of this machine, by a real shell and real programs."""
    config = fake_cluster({"node01": {}}).nodes[0].config
    return DirectLauncher(Node(config, LocalTransport("node01")), str(tmp_path / "jobs"))


@pytest.fixture
def archive(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of one large file, whole in the cache."""
    digest = hashlib.sha256(LARGE).hexdigest()
    file = File(name="large.tar.gz", sha256=digest, bytes=len(LARGE), url="https://origin.example/large.tar.gz")
    manifest = {"large": DataSet(title="a large one", files=(file,))}
    monkeypatch.setattr(_data, "load_manifest", lambda: manifest)
    path = Cache().path("large", file)
    path.parent.mkdir(parents=True)
    path.write_bytes(LARGE)
    return path


def test_a_file_larger_than_what_a_command_may_say(launcher: DirectLauncher, lease: Lease, archive: Path) -> None:
    folder, known = _data.staged(launcher, Once(lease), "large", from_package)
    assert folder == f"{launcher.folder}/data-large"
    assert [path.name for path in Path(folder).iterdir()] == [file.name for file in known.files] == [archive.name]
    assert (Path(folder) / archive.name).read_bytes() == LARGE


def test_a_file_that_is_not_what_the_manifest_says(launcher: DirectLauncher, lease: Lease, archive: Path) -> None:
    archive.write_bytes(LARGE[:-1])
    with pytest.raises(AiHowError, match=rf"large\.tar\.gz: .* has {len(LARGE) - 1} bytes, expected {len(LARGE)}"):
        _data.staged(launcher, Once(lease), "large", from_package)
    assert not list(Path(launcher.folder, "data-large").iterdir())


def test_a_copy_that_was_cut_off_is_none(launcher: DirectLauncher, lease: Lease, archive: Path) -> None:
    folder = Path(launcher.folder, "data-large")
    folder.mkdir()
    (folder / archive.name).write_bytes(LARGE[:1000])
    _data.staged(launcher, Once(lease), "large", from_package)
    assert (folder / archive.name).stat().st_size == len(LARGE)
