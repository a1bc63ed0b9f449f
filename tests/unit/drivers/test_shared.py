import hashlib
import stat
from pathlib import Path

import pytest
import yaml

from pytest_ai_how.drivers.machines.shared import deploy_images, make_registry, make_shared


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """What would be given to whom: the tests run without root."""
    found: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr("os.chown", lambda path, uid, gid: found.update({Path(path).name: (uid, gid)}))
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_of_jobs_and_data(tmp_path: Path, owners: dict[str, tuple[int, int]]) -> None:
    make_shared(tmp_path / "shared", (1000, 1001))
    found = {path.name: mode(path) for path in (tmp_path / "shared").iterdir()}
    assert found == {"jobs": 0o1777, "huggingface": 0o1777, "evaluations": 0o1777, "datasets": 0o775, "models": 0o775}
    assert owners["datasets"] == (0, 1001)


def test_registry_has_the_tree_of_the_catalogue(tmp_path: Path, owners: dict[str, tuple[int, int]]) -> None:
    make_registry(tmp_path / "containers", 64030)
    folders = {path.name: mode(path) for path in (tmp_path / "containers").iterdir()}
    assert folders == dict.fromkeys(("ml-frameworks", "custom-images", "base-images", ".registry"), 0o775)
    assert owners["ml-frameworks"] == (0, 64030)
    assert yaml.safe_load((tmp_path / "containers/.registry/config.yaml").read_text())["version"] == 1


def test_catalogue_lists_each_image_with_digest_and_size(tmp_path: Path, owners: dict[str, tuple[int, int]]) -> None:
    sources = {name: tmp_path / f"{name}.img" for name in ("base", "pytorch", "mine")}
    for name, source in sources.items():
        source.write_bytes(name.encode() * 1000)
    root = tmp_path / "containers"
    make_registry(root, 64030)
    deploy_images(root, sources, 64030)
    images = yaml.safe_load((root / ".registry/catalog.yaml").read_text())["images"]
    assert [image["file"] for image in images] == [
        "base-images/base.sif",
        "ml-frameworks/pytorch.sif",
        "custom-images/mine.sif",
    ]
    for image in images:
        content = (root / image["file"]).read_bytes()
        assert image["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert image["size"] == len(content)


def test_deployed_image_is_a_copy(tmp_path: Path, owners: dict[str, tuple[int, int]]) -> None:
    (tmp_path / "base.sif").write_bytes(b"cached")
    make_registry(tmp_path / "containers", 64030)
    deploy_images(tmp_path / "containers", {"base": tmp_path / "base.sif"}, 64030)
    (tmp_path / "containers/base-images/base.sif").write_bytes(b"changed by a node")
    assert (tmp_path / "base.sif").read_bytes() == b"cached"
