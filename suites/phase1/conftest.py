"""Fixtures of phase 1 only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_ai_how.bringup import Bringup
    from pytest_ai_how.cluster import Cluster
    from pytest_ai_how.config.models import ClusterConfig
    from pytest_ai_how.node import Node
    from pytest_ai_how.report.evidence import Evidence
    from pytest_ai_how.report.facts import Facts
    from pytest_ai_how.services.monitoring import Monitoring

    from ._pair import Pair
    from ._rebuilt import Rebuilt


@pytest.fixture
def administrators(cluster: Cluster) -> Iterator[dict[str, Node]]:
    """Each machine by name, reached as the account that becomes root by sudo."""
    from ._access import administrators

    found = administrators(cluster)
    yield found
    for node in found.values():
        node.transport.close()


@pytest.fixture
def pair(cluster: Cluster) -> Pair:
    """The key pair by which this run reaches the machines that it made."""
    from ._pair import read_pair

    return read_pair(cluster.config)


@pytest.fixture
def current(monitoring: Monitoring, evidence: Evidence) -> Facts:
    """Facts as they are now that monitoring is ready: those of the run were read before its daemons were there."""
    from pytest_ai_how.facts import Readings
    from pytest_ai_how.report.facts import Facts

    return Facts(Readings(monitoring.cluster.nodes), evidence)


@pytest.fixture
def rebuilt(
    cluster_config: ClusterConfig, bringup: Bringup, run_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rebuilt]:
    """A machine of a small cluster beside the one of the run, made twice. Nothing of it outlives the test."""
    from ..phase4._small import prepared, small_config
    from ._rebuilt import rebuild

    config = small_config(cluster_config, bringup.driver, run_id, "anew")
    small = prepared(config, bringup.driver, tmp_path_factory.mktemp("rebuilt"), run_id)
    with small.nothing_left():
        yield rebuild(small)
