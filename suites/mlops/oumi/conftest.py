"""Fixtures of Oumi's suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.launch import Launcher
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.scales import Scale
from pytest_ai_how.skin.keys import CREW

from ._oumi import Oumi
from ._work import Plan

#: What Oumi's jobs import.
MODULES = ("oumi", "torch", "transformers", "trl", "peft")


@pytest.fixture(scope="session")
def oumi(
    launcher: Launcher,
    once: Once,
    cluster: Cluster,
    scale: Scale,
    framework: Callable[[str, Sequence[str]], Runtime],
    request: pytest.FixtureRequest,
) -> Oumi:
    """What starts Oumi's jobs: Oumi is in a container image, or beside an interpreter of the machine."""
    real = not request.config.stash[CREW].orders.why_absent("gpu.real")
    return Oumi(launcher, once, cluster, framework("oumi", MODULES), Plan.of(scale), real)
