"""Fixtures of the suites that train."""

from __future__ import annotations

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.launch import Launcher
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.skin.keys import CREW
from pytest_ai_how.transport.local import LocalTransport

from ._trainer import Trainer


@pytest.fixture(scope="session")
def trainer(
    launcher: Launcher,
    once: Once,
    cluster: Cluster,
    run_id: str,
    pytorch: Runtime,
    request: pytest.FixtureRequest,
) -> Trainer:
    """What starts training jobs: PyTorch is in a container image, or an interpreter of the machine."""
    orders = request.config.stash[CREW].orders
    real, unreadable = not orders.why_absent("gpu.real"), orders.why_absent("root")
    host = LocalTransport() if orders.why_absent("kernel.own") else None
    return Trainer(launcher, once, cluster, pytorch.image, run_id, real, pytorch.python, host, unreadable)
