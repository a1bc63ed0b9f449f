"""Hooks that a conftest.py or a plugin of another repository may implement. None is needed.

Example, in the ``conftest.py`` of a site::

    def pytest_ai_how_capabilities(config, facts):
        if "ib0" not in os.listdir("/sys/class/net"):
            return {"infiniband": "no interface ib0 on the host"}

    def pytest_ai_how_services():
        return {"ldap": Ldap}          # Ldap(cluster): a Service; a fixture gets it by ready_service("ldap")

    def pytest_ai_how_verdict(report):
        chat.post(f"{report.run.cluster}: {report.verdict}")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_ai_how.bringup import Bringup
    from pytest_ai_how.cluster import Cluster
    from pytest_ai_how.config.models import ClusterConfig
    from pytest_ai_how.drivers.protocol import Driver, HostFacts
    from pytest_ai_how.lease.lease import Lease
    from pytest_ai_how.progress import Progress
    from pytest_ai_how.report.model import RunReport
    from pytest_ai_how.services.protocol import Service


@pytest.hookspec
def pytest_ai_how_configure(config: ClusterConfig) -> None:
    """The configuration was read and is valid; nothing was made or contacted. Runs in every process of a run.

    Raise :class:`pytest.UsageError` to refuse it.
    """


@pytest.hookspec
def pytest_ai_how_services() -> Mapping[str, Callable[[Cluster], Service]]:
    """Return services of your own by name, each made from the cluster when ``bringup.ready(name)`` first asks."""
    return {}


@pytest.hookspec
def pytest_ai_how_capabilities(config: ClusterConfig, facts: HostFacts) -> Mapping[str, str]:
    """Return capabilities by name, with the reason why each is absent; an empty reason means that it is there.

    Names that the product does not know become known to ``@pytest.mark.requires``. Runs once, on the controller.
    """
    return {}


@pytest.hookspec
def pytest_ai_how_verdict(report: RunReport) -> None:
    """The run was judged and its reports were written. Runs once, on the controller."""


@pytest.hookspec(firstresult=True)
def pytest_ai_how_driver(config: ClusterConfig, progress: Progress) -> Driver | None:
    """Return what makes the machines of this configuration, or None to leave it to ``driver:``."""


@pytest.hookspec(firstresult=True)
def pytest_ai_how_bringup(config: ClusterConfig, driver: Driver, lease: Lease, progress: Progress) -> Bringup | None:
    """Return what makes the cluster and its services ready, or None for our own. Runs once in each process."""
