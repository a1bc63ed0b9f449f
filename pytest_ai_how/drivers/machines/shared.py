"""The shared directory: a folder of this host that every node mounts, with the container registry in it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import yaml

from pytest_ai_how.config.models import ClusterConfig, served
from pytest_ai_how.drivers.machines.accounts import Accounts
from pytest_ai_how.errors import ProvisionError

# STO-30: the folders of the registry, 0775 root:slurm.
REGISTRY_FOLDERS = ("ml-frameworks", "custom-images", "base-images", ".registry")
CATALOG = ".registry/catalog.yaml"
# Where each of our own images goes.
PLACES: Mapping[str, str] = {
    "base": "base-images/base.sif",
    "mpi": "base-images/mpi.sif",
    "pytorch": "ml-frameworks/pytorch.sif",
    "oumi": "ml-frameworks/oumi.sif",
}


def lay_out(config: ClusterConfig, shared: Path, accounts: Accounts) -> Path | None:
    """Make the shared directory that the configuration asks for, with an empty registry in it, and return that.

    None when nodes share no directory of this host. Raises :class:`ProvisionError` for a registry outside of it.
    """
    if config.storage.kind != "host-directory":
        return None
    make_shared(shared, accounts.owner(config.user))
    mount, registry = Path(config.storage.mount), Path(config.registry)
    if not registry.is_relative_to(mount) or registry == mount:
        raise ProvisionError(
            config.name,
            f"containers.registry {registry} is not on shared storage",
            expected=f"a folder below {mount}",
            cure="leave containers.registry out, or put it below storage.mount",
        )
    place = shared / registry.relative_to(mount)
    place.parent.mkdir(parents=True, exist_ok=True)
    make_registry(place, accounts.owner("slurm")[1])
    return place


def make_shared(root: Path, job_user: tuple[int, int]) -> None:
    """Make the folders that jobs use: ``jobs`` and caches for everybody, data and models for the job user's group."""
    root.mkdir(parents=True)
    root.chmod(0o755)
    for name, mode in (("jobs", 0o1777), ("huggingface", 0o1777), ("evaluations", 0o1777)):
        _folder(root / name, mode, (0, 0))
    for name in ("datasets", "models"):
        _folder(root / name, 0o775, (0, job_user[1]))


def make_registry(root: Path, slurm_group: int) -> None:
    """Make the empty tree of the container registry: STO-30's folders and its configuration."""
    _folder(root, 0o775, (0, slurm_group))
    for name in REGISTRY_FOLDERS:
        _folder(root / name, 0o775, (0, slurm_group))
    _write(root / ".registry/config.yaml", registry_settings(), slurm_group)


def registry_settings() -> str:
    """The registry's own settings, ``.registry/config.yaml``."""
    layout = [name for name in REGISTRY_FOLDERS if not name.startswith(".")]
    config = {"version": 1, "layout": layout, "catalog": CATALOG, "digest": "sha256"}
    return yaml.safe_dump(config, sort_keys=False)


def deploy_images(root: Path, images: Mapping[str, Path], slurm_group: int) -> None:
    """Copy images into the registry and list each in the catalogue with its digest and size in bytes.

    Both by the name under which the cluster knows it.
    """
    entries = []
    for image, source in images.items():
        name = served(image)
        place = place_of(name)
        target = root / place
        # A copy and not a link: root on a node must not be able to change the cached image.
        shutil.copyfile(source, target)
        os.chown(target, 0, slurm_group)
        target.chmod(0o644)
        with target.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        entries.append({"name": name, "file": place, "digest": f"sha256:{digest}", "size": target.stat().st_size})
    _write(root / CATALOG, catalog(entries), slurm_group)


def place_of(name: str) -> str:
    """Where the registry has the image that the cluster knows by ``name``."""
    return PLACES.get(name, f"custom-images/{name}.sif")


def catalog(entries: Iterable[Mapping[str, object]]) -> str:
    """The registry's catalogue: the ``name``, ``file``, ``digest`` and ``size`` in bytes of each image."""
    updated = datetime.now(UTC).isoformat(timespec="seconds")
    return yaml.safe_dump({"version": 1, "updated": updated, "images": [dict(one) for one in entries]}, sort_keys=False)


def _folder(path: Path, mode: int, owner: tuple[int, int]) -> None:
    path.mkdir()
    os.chown(path, *owner)
    path.chmod(mode)


def _write(path: Path, text: str, group: int) -> None:
    path.write_text(text)
    os.chown(path, 0, group)
    path.chmod(0o664)
