"""``--plan`` over all clusters of a file, where none of them was named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pytest_ai_how import pci
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.progress import Silent
from pytest_ai_how.skin.absent import AbsentDriver
from pytest_ai_how.skin.plan import plan_of_cluster


class PlanOfAll:
    """Hooks of a session that plans several clusters and runs nothing."""

    def __init__(self, pytest_config: pytest.Config, cluster: str, configs: Sequence[ClusterConfig]) -> None:
        self._pytest_config, self._cluster, self._configs = pytest_config, cluster, configs

    def pytest_report_header(self) -> str:
        """Which clusters."""
        return f"ai-how: clusters {', '.join(config.name for config in self._configs)} of {self._cluster}; a plan only"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Print the plan in place of running."""
        if session.testsfailed:
            return None
        reporter = self._pytest_config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.section("plan")
            for line in self._lines(len(session.items)):
                reporter.write_line(line)
        return True

    def _lines(self, tests: int) -> Iterator[str]:
        for config in self._configs:
            yield from plan_of_cluster(config, self._driver(config))
            yield ""
        yield from shared_devices(self._configs)
        yield f"{tests} tests are selected; which of them a cluster runs: --cluster={self._cluster}/NAME --plan"

    def _driver(self, config: ClusterConfig) -> Driver:
        try:
            driver: Driver = self._pytest_config.hook.pytest_ai_how_driver(config=config, progress=Silent())
        except AiHowError as error:
            return AbsentDriver(config.driver, error)
        return driver


def shared_devices(configs: Sequence[ClusterConfig]) -> Iterator[str]:
    """The devices that several machines name, who starts with them, and whether that can be."""
    found = pci.plan(configs, pci.Host({}, iommu=True, vfio="loaded"))
    starts = {one.owner for one in found.assignments if one.starts}
    for address, owners in found.shared.items():
        first, *others = owners
        held = f"held by {first} from its start" if first in starts else "held by nobody until one is started"
        yield f"device {address} is named by {len(owners)} machines: {held}; {', '.join(others)} can have it after that"
