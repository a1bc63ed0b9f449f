"""Fixtures of Oumi's suite."""

from __future__ import annotations

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.launch import Launcher
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.scales import Scale
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.skin.keys import CREW

from ._oumi import Oumi
from ._work import Plan

#: The image that has Oumi, in the registry.
IMAGE = "oumi"


@pytest.fixture(scope="session")
def oumi(
    launcher: Launcher,
    once: Once,
    cluster: Cluster,
    registry: Registry,
    scale: Scale,
    request: pytest.FixtureRequest,
) -> Oumi:
    """What starts Oumi's jobs, in its container image."""
    request.getfixturevalue("apptainer")
    real = not request.config.stash[CREW].orders.why_absent("gpu.real")
    return Oumi(launcher, once, cluster, registry.path(IMAGE), Plan.of(scale), real)
