"""Fixtures of phase 0 only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.network import host_links, host_routes

from ._samples import Answer, Ways, ask

if TYPE_CHECKING:
    from pytest_ai_how.bringup import Bringup
    from pytest_ai_how.image.definitions import Definition, Source
    from pytest_ai_how.image.disk import DiskFacts
    from pytest_ai_how.shell import Result

    from ._host import Able, Host
    from ._images import Presence, Provenance
    from ._keys import Door, Keys
    from ._retired import Retired
    from ._roles import Catalogued, Packages
    from .test_roles import Verify


@pytest.fixture
def asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str, str], Answer]:
    """Ask the command line about a file of this content: ``asked(name, content)``."""

    def answer(name: str, content: str) -> Answer:
        path = tmp_path / f"{name}.yaml"
        path.write_text(content, encoding="utf-8")
        status = ask(str(path))
        return Answer(status, capfd.readouterr().err.replace(f"{tmp_path}/", ""))

    return answer


@pytest.fixture
def ways() -> Ways:
    """The interfaces and routes of this host as they are now."""
    return Ways(host_links(), host_routes())


@pytest.fixture
def plain(cluster_config: ClusterConfig) -> dict[str, object]:
    """The configuration as the plain values of a file."""
    values: dict[str, object] = cluster_config.model_dump(mode="json")
    return values


@pytest.fixture
def cluster_file(pytestconfig: pytest.Config) -> Path:
    """The file that ``--cluster`` names."""
    from pytest_ai_how.config.reference import refer
    from pytest_ai_how.skin.keys import CREW

    return refer(pytestconfig.stash[CREW].orders.settings.cluster).path


@pytest.fixture
def host(cluster_config: ClusterConfig) -> Host:
    """What this host is now."""
    from pytest_ai_how.lease.state import cluster_state

    from ._host import read_host

    return read_host(cluster_state(cluster_config.name))


@pytest.fixture
def machines_up(bringup: Bringup) -> bool:
    """Whether the cluster's machines are made already, by a run before this one or by this one. Makes none."""
    from pytest_ai_how.bringup import MACHINES

    step = bringup.lease.record.steps.get(MACHINES)
    return step is not None and step.state == "done"


@pytest.fixture
def able(cluster_config: ClusterConfig, bringup: Bringup, machines_up: bool) -> Able:
    """What the driver says of this host. Makes no machine."""
    from pytest_ai_how.skin.absent import refusals

    from ._host import Able

    refused = () if machines_up else refusals(bringup.driver, cluster_config)
    return Able(bringup.driver.facts(), machines_up, tuple(refused))


@pytest.fixture
def keys_and_door(
    cluster_config: ClusterConfig, bringup: Bringup, machines_up: bool, tmp_path: Path
) -> tuple[Keys, Door]:
    """The pair that opens the machines and what came of trying it; see :mod:`._keys`. Makes no machine.

    Others wait for this check, so an image that is missing is built as it is when machines are made.
    """
    from pytest_ai_how.image import ensure_image
    from pytest_ai_how.image.needed import TREE_IMAGE

    from . import _keys

    def tree() -> Path:
        return ensure_image(TREE_IMAGE, bringup.progress).path

    return _keys.tried(cluster_config, bringup.driver, machines_up, tree, tmp_path)


@pytest.fixture
def keys(keys_and_door: tuple[Keys, Door]) -> Keys:
    """The pair by which this host reaches the machines."""
    return keys_and_door[0]


@pytest.fixture
def door(keys_and_door: tuple[Keys, Door]) -> Door:
    """What came of trying it."""
    return keys_and_door[1]


@pytest.fixture(scope="session")
def needed_images(cluster_config: ClusterConfig, bringup: Bringup) -> Sequence[Presence]:
    """The images that the cluster needs, there or not. Builds none."""
    from ._images import presences

    return presences(cluster_config, bringup.driver.name)


@pytest.fixture
def disks(needed_images: Sequence[Presence]) -> dict[str, DiskFacts]:
    """What qemu-img says of the disks among them, by image."""
    from pytest_ai_how.image.sandbox import Sandbox

    from ._images import disk_of

    with Sandbox() as sandbox:
        found = (one.image for one in needed_images if one.image)
        return {image.name: disk_of(image, sandbox) for image in found if image.manifest["kind"] == "disk"}


@pytest.fixture
def provenances(cluster_config: ClusterConfig, needed_images: Sequence[Presence], tmp_path: Path) -> list[Provenance]:
    """Each of them read whole. Takes seconds."""
    from pytest_ai_how.image.needed import origin
    from pytest_ai_how.image.sandbox import Sandbox

    from ._images import provenance

    with Sandbox() as sandbox:
        found = (one.image for one in needed_images if one.image)
        return [provenance(image, origin(cluster_config), tmp_path, sandbox) for image in found]


@pytest.fixture(scope="session")
def role_source() -> Source:
    """Roles, images and versions as they ship."""
    from pytest_ai_how.image.definitions import Source

    return Source.shipped()


@pytest.fixture(scope="session")
def found_roles(role_source: Source) -> Catalogued:
    """All of them, read."""
    from ._roles import catalogued

    return catalogued(role_source)


@pytest.fixture
def found_packages(found_roles: Catalogued, tmp_path: Path) -> Packages:
    """Who vouches for their packages. apt is asked only for images that are not built; it takes seconds for each."""
    from ._roles import apt_lacks, packages

    return packages(found_roles, apt_lacks(tmp_path))


@pytest.fixture
def shipped() -> list[ClusterConfig]:
    """All configurations that ship and whose machines we make."""
    from pytest_ai_how.config.loader import config_names, load_configs

    return [config for name in config_names() for config in load_configs(name) if config.is_ours]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Look at an image's units with the systemd of the tree that it is, or that it is made of."""
    from pytest_ai_how.image.sandbox import Sandbox

    from ._images import present
    from ._roles import verify_units

    def look(definition: Definition) -> tuple[Sequence[str], Result]:
        scratch = tmp_path / definition.name
        scratch.mkdir()
        tree = present((definition.of or definition).name).path
        with Sandbox() as sandbox:
            return verify_units(definition, tree, scratch, sandbox)

    return look


@pytest.fixture
def shellcheck() -> str:
    """Where shellcheck is; empty where this host has none."""
    return shutil.which("shellcheck") or ""


@pytest.fixture
def booted(cluster_config: ClusterConfig, bringup: Bringup, role_source: Source) -> Definition:
    """What the image of the cluster's machines is made of."""
    from pytest_ai_how.image.needed import images_of

    return role_source.define(images_of(cluster_config.model_copy(update={"driver": bringup.driver.name}))[0])


@pytest.fixture
def retired() -> Retired:
    """The words that are no longer ours."""
    from . import _retired

    return _retired.retired()


@pytest.fixture
def top() -> Path:
    """Where the product lies."""
    from ._retired import product

    return product()


@pytest.fixture
def sources(top: Path) -> list[Path]:
    """All files of the product."""
    from . import _retired

    return list(_retired.sources(top))
