"""Fixtures of the suites that train."""

from __future__ import annotations

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.launch import Launcher
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.skin.keys import CREW

from ._trainer import Trainer

#: The image that has PyTorch, in the registry.
IMAGE = "pytorch"


@pytest.fixture(scope="session")
def trainer(
    launcher: Launcher,
    once: Once,
    cluster: Cluster,
    run_id: str,
    request: pytest.FixtureRequest,
    pytestconfig: pytest.Config,
) -> Trainer:
    """What starts training jobs: PyTorch is in a container image, or where there are no containers, on the machine."""
    image = ""
    real = not pytestconfig.stash[CREW].orders.why_absent("gpu.real")
    if cluster.config.containers.runtime != "none":
        request.getfixturevalue("apptainer")
        registry: Registry = request.getfixturevalue("registry")
        image = registry.path(IMAGE)
    return Trainer(launcher, once, cluster, image, run_id, real)
