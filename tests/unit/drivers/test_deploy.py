"""Container images get onto storage that the machines serve themselves, and the catalogue tells of them last."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from pytest_ai_how.drivers.machines import deploy
from pytest_ai_how.drivers.machines.deploy import deploy_over
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.node import Node
from pytest_ai_how.services.registry import CatalogEntry, parse_catalog
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport

from .sample import config

ROOT = "/mnt/beegfs/containers"
NOT_THERE, THERE = Result((), 1), Result((), 0)


def controller(*, catalogued: bool = False, folders: list[Result] | None = None) -> tuple[Node, FakeTransport]:
    transport = FakeTransport(
        "controller",
        {
            f"test -s {ROOT}/.registry/catalog.yaml": THERE if catalogued else NOT_THERE,
            f"test -f {ROOT}/.registry/config.yaml": folders or [THERE],
            "chown root:slurm": "",
        },
    )
    return Node(config().controller, transport), transport


def test_images_and_then_the_catalogue_are_written(tmp_path: Path) -> None:
    sif = tmp_path / "base.sif"
    sif.write_bytes(b"an image")
    node, transport = controller(folders=[NOT_THERE, THERE])
    deploy_over(node, ROOT, {"base": sif, "mine": sif})
    assert list(transport.files) == [
        f"{ROOT}/base-images/base.sif",
        f"{ROOT}/custom-images/mine.sif",
        f"{ROOT}/.registry/catalog.yaml",
    ]
    told = transport.files[f"{ROOT}/.registry/catalog.yaml"].decode()
    digest = hashlib.sha256(b"an image").hexdigest()
    assert parse_catalog(told, "controller")[0] == CatalogEntry("base", "base-images/base.sif", digest, 8)
    assert yaml.safe_load(told)["version"] == 1
    assert [call.argv[-1] for call in transport.calls if call.argv[0] == "chown"] == list(transport.files)
    assert transport.modes[f"{ROOT}/base-images/base.sif"] == 0o644


def test_a_registry_that_has_its_catalogue_is_left_alone(tmp_path: Path) -> None:
    node, transport = controller(catalogued=True)
    deploy_over(node, ROOT, {"base": tmp_path / "not there.sif"})
    assert transport.files == {}


def test_folders_that_never_come_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "_FOLDERS", 0.05)
    node, transport = controller(folders=[NOT_THERE])
    with pytest.raises(DeadlineExceeded, match=r"(?s)controller: not /mnt/beegfs/containers/.*ai-how-shared.service"):
        deploy_over(node, ROOT, {"base": tmp_path / "base.sif"})
    assert transport.files == {}
