"""Fixtures of phase 4 only: the small cluster, and what was done to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import _lives
from ._lives import Again, Crowd, End, Interrupted, Stop
from ._small import Small, both_on, prepared, small_config
from .runs.cluster_runs import WORKERS

if TYPE_CHECKING:
    from pytest_ai_how.bringup import Bringup
    from pytest_ai_how.cluster import Cluster
    from pytest_ai_how.config.models import ClusterConfig
    from pytest_ai_how.image.definitions import Source
    from pytest_ai_how.image.store import Image

    from ._packages import Outcome
    from ._readiness import Tried


@pytest.fixture(scope="session")
def small(
    cluster_config: ClusterConfig, bringup: Bringup, run_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Small]:
    """A cluster of its own beside the one of the run. Nothing of it outlives this."""
    config = small_config(cluster_config, bringup.driver, run_id)
    made = prepared(config, bringup.driver, tmp_path_factory.mktemp("small"), run_id)
    with made.nothing_left():
        yield made


@pytest.fixture(scope="session")
def crowd(small: Small) -> Crowd:
    """The small cluster, brought up by several workers at once."""
    return _lives.crowd(small, WORKERS)


@pytest.fixture(scope="session")
def again(crowd: Crowd, small: Small) -> Again:  # noqa: ARG001  comes after it
    """The small cluster, started when it was up."""
    return _lives.again(small)


@pytest.fixture(scope="session")
def stopped(small: Small) -> Stop:
    """A machine of the small cluster, stopped in order and started again."""
    return _lives.stop_and_start(small)


@pytest.fixture(scope="session")
def failed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> End:
    """A run whose second machine can't be made."""
    folder: Path = tmp_path_factory.mktemp("failing")
    return _lives.fail_in_between(
        prepared(both_on(small.config), small.driver, folder, small.run_id, "fails_at_node01.py")
    )


@pytest.fixture(scope="session")
def destroyed(small: Small) -> End:
    """The small cluster, destroyed beside things that are not ours."""
    return _lives.destroy(small)


@pytest.fixture(scope="session")
def killed_whole(small: Small) -> Interrupted:
    """A run that was killed while its cluster was whole, and the start after it."""
    return _lives.killed_whole(small)


@pytest.fixture(scope="session")
def killed_half(small: Small) -> Interrupted:
    """A run that was killed while it made machines, and the start after it."""
    return _lives.killed_half(small)


@pytest.fixture
def probed(cluster: Cluster) -> str:
    """The machine on which daemons are waited for."""
    return cluster.nodes[-1].name


@pytest.fixture
def waits(cluster: Cluster, probed: str) -> Mapping[str, Tried]:
    """What became of waiting for each of some daemons there."""
    from ._readiness import tried

    return tried(cluster[probed])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """The definition of a small image."""
    from ._packages import definitions

    return definitions(tmp_path_factory.mktemp("tiny") / "definitions")


@pytest.fixture(scope="session")
def twins(tiny: Source, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, ...]:
    """The small image of kind ``tree``, built twice."""
    from pytest_ai_how.skin.keys import CREW

    from ._packages import built_twice

    return built_twice(tiny, tmp_path_factory.mktemp("twins"), pytestconfig.stash[CREW].progress)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the two caches of ``--scale=full``."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(scope="session")
def compared(
    request: pytest.FixtureRequest,
    cluster_config: ClusterConfig,
    bringup: Bringup,
    pytestconfig: pytest.Config,
    caches: Path,
) -> tuple[Image, ...]:
    """An image, built twice: the small one, and with ``--scale=full`` that of the machines."""
    from pytest_ai_how.image.definitions import Source
    from pytest_ai_how.image.needed import images_of, origin
    from pytest_ai_how.skin.keys import CREW

    from ._packages import built_twice

    crew = pytestconfig.stash[CREW]
    if crew.orders.settings.scale != "full":
        small: tuple[Image, ...] = request.getfixturevalue("twins")
        return small
    name = images_of(cluster_config.model_copy(update={"driver": bringup.driver.name}))[0]
    return built_twice(Source.shipped(), caches, crew.progress, name, origin(cluster_config))


@pytest.fixture(scope="session")
def containers(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, caches: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Image, ...]:
    """A container's image, made twice: of the small image, and with ``--scale=full`` all of ``base``."""
    from pytest_ai_how.image import ensure_image
    from pytest_ai_how.image.definitions import Source
    from pytest_ai_how.skin.keys import CREW

    from ._packages import as_containers, built_twice

    crew = pytestconfig.stash[CREW]
    if crew.orders.settings.scale == "full":
        return built_twice(Source.shipped(), caches, crew.progress, "base")
    small: tuple[Image, ...] = request.getfixturevalue("twins")
    return as_containers(small, ensure_image("node", crew.progress), tmp_path_factory.mktemp("containers"))


@pytest.fixture(scope="session")
def package_outcomes(
    tiny: Source, twins: tuple[Image, ...], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Outcome]:
    """What came of asking for packages there in each way."""
    from ._packages import outcomes

    return outcomes(tiny, twins[0], tmp_path_factory.mktemp("packages"))


@pytest.fixture
def asked_packages(cluster_config: ClusterConfig, bringup: Bringup) -> Mapping[str, str]:
    """The packages that the roles of the machines' image ask for, in the versions that were installed into it."""
    from pytest_ai_how.image import ensure_image
    from pytest_ai_how.image.definitions import Source
    from pytest_ai_how.image.needed import images_of, origin
    from pytest_ai_how.progress import Silent

    name = images_of(cluster_config.model_copy(update={"driver": bringup.driver.name}))[0]
    definition, image = Source.shipped().define(name), ensure_image(name, Silent(), origin(cluster_config))
    names = {*definition.packages, *(definition.of.packages if definition.of else ())}
    return {name: image.manifest["packages"][name] for name in sorted(names)}
