"""The product's own answers to its hooks: which driver, which bring-up, which services."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pytest_ai_how.bringup import Bringup, ServiceFactory
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.drivers.libvirt.daemon import running_daemon
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.state import cache_home
from pytest_ai_how.node import Node
from pytest_ai_how.progress import Progress
from pytest_ai_how.services.protocol import Service
from pytest_ai_how.services.storage import Medium, Storage
from pytest_ai_how.services.storage.baseline import Baseline
from pytest_ai_how.transport.local import LocalTransport

# The figure by which one tells that an earlier run measured storage on this host (STO-25).
_FIRST_FIGURE = "storage.seq_read.fraction"


class OwnAnswers:
    """Hook implementations that give way to any other. Unless it ``builds``, choosing a driver builds no image."""

    def __init__(self, config: pytest.Config, *, builds: bool = True) -> None:
        self._config, self._builds = config, builds

    @pytest.hookimpl(trylast=True)
    def pytest_ai_how_driver(self, config: ClusterConfig, progress: Progress) -> Driver:
        """The driver that the configuration names."""
        return choose_driver(config, progress, builds=self._builds)

    @pytest.hookimpl(trylast=True)
    def pytest_ai_how_bringup(self, config: ClusterConfig, driver: Driver, lease: Lease, progress: Progress) -> Bringup:
        """Our own bring-up, with the services of other plugins."""
        services: dict[str, ServiceFactory] = {}
        if not why_no_raw_medium(config, driver.name):
            services["storage"] = storage_over(lease.state, serves=driver.name == "libvirt")
        mappings: list[Mapping[str, Callable[[Cluster], Service]]] = self._config.hook.pytest_ai_how_services()
        for mapping in reversed(mappings):  # a conftest answers before an installed plugin, and wins
            services.update(mapping)
        return Bringup(config, driver, lease, progress, services)


def storage_over(state: Path, *, serves: bool = False) -> ServiceFactory:
    """What lies below is measured bare: a folder of this host in ``state``, and on that, of BeeGFS, the targets.

    The shared directory lies in ``state`` as well, and so do the disks of virtual machines; this host ``serves`` it to
    those by virtiofs.
    """

    def make(cluster: Cluster) -> Storage:
        folder = state / "raw"
        folder.mkdir(exist_ok=True)
        host = NodeConfig(name="localhost", roles=("storage",), address=IPv4Address("127.0.0.1"))
        disk = Medium(Node(host, LocalTransport()), str(folder))
        if cluster.config.storage.kind != "beegfs":
            return Storage(cluster, replace(disk, serves=serves))
        from pytest_ai_how.services.beegfs import BeeGfs
        from pytest_ai_how.services.beegfs.media import TargetMedia

        return Storage(cluster, TargetMedia(BeeGfs(cluster)), disk)

    return make


def why_no_raw_medium(config: ClusterConfig, driver: str) -> str:
    """Why the medium below the shared file system cannot be measured; empty when it can."""
    if driver not in ("nspawn", "libvirt") or config.storage.kind not in ("host-directory", "beegfs"):
        return f"it is not known what lies below storage.kind {config.storage.kind} of driver {driver}"
    if driver == "libvirt" and config.storage.kind == "host-directory" and running_daemon():
        return "the libvirt daemon of this host serves directories from memory, also to who asks for direct I/O"
    return "" if shutil.which("fio") else "fio is not installed on this host (apt-get install fio)"


def baseline_of(config: ClusterConfig, run_id: str) -> Baseline:
    """The figures of earlier runs of this cluster on this host."""
    return Baseline(cache_home() / "baselines" / f"{config.name}.json", run_id)


def looked_absent(config: ClusterConfig, driver: str, run_id: str) -> dict[str, str]:
    """Capabilities that only a look at this host can tell, when they are absent, with the reason."""
    found: dict[str, str] = {}
    if config.storage.kind == "none":
        return found
    if reason := why_no_raw_medium(config, driver):
        found["storage.raw"] = reason
    if baseline_of(config, run_id).median(_FIRST_FIGURE) is None:
        found["storage.baseline"] = f"no earlier run measured the storage of cluster '{config.name}' on this host"
    return found
