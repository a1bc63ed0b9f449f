"""Small clusters of virtual machines, and what this machine knows of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver
from pytest_ai_how.drivers.libvirt.names import tap_name
from pytest_ai_how.lease.files import remove_tree
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.lease import JOURNAL
from pytest_ai_how.lease.state import cluster_state, private_folder
from pytest_ai_how.lease.undo import undo_all
from pytest_ai_how.lease.undoers import generic_undoers
from pytest_ai_how.node import Node
from suites.phase6._inventory import inventory


def config(name: str, subnet: str, **changes: Any) -> ClusterConfig:
    """A controller and a compute node with two simulated GPUs, in ``subnet`` (``10.68.0``)."""
    gpus = {"kind": "simulated", "count": 2}
    whole = {
        "version": 1,
        "name": name,
        "driver": "libvirt",
        "network": {"subnet": f"{subnet}.0/24", "bridge": f"ah-{name}"[:15]},
        "nodes": [
            {"name": "controller", "roles": ["controller"], "address": f"{subnet}.10", "cpus": 1, "memory": 1024},
            {
                "name": "node01",
                "roles": ["compute"],
                "address": f"{subnet}.11",
                "cpus": 1,
                "memory": 1024,
                "gpus": gpus,
            },
        ],
        "slurm": {
            "cluster": name,
            "accounting": False,
            "partitions": [{"name": "gpu", "nodes": ["node01"], "default": True}],
        },
        "containers": {"runtime": "none"},
    }
    return ClusterConfig.model_validate(whole | changes)


@dataclass
class Made:
    """A cluster with its journal."""

    config: ClusterConfig
    driver: LibvirtDriver
    journal: Journal
    cluster: Cluster

    def up(self) -> None:
        self.driver.check(self.config)
        self.driver.up(self.config, self.journal)

    def down(self) -> None:
        self.cluster.close()
        undo_all(self.journal, generic_undoers("libvirt", cluster_state(self.config.name)))
        remove_tree(cluster_state(self.config.name))

    def traces(self) -> list[str]:
        """What this machine knows of the cluster."""
        name, network = self.config.name, self.config.network
        assert network is not None
        taps = (tap_name(name, node.name) for node in self.config.nodes)
        words = (name, network.bridge, *taps, str(cluster_state(name)))
        return [one for one in inventory(name) if any(word in one for word in words)]


def prepare(config: ClusterConfig, driver: LibvirtDriver) -> Made:
    state = private_folder(cluster_state(config.name))
    nodes = [Node(node, driver.transport(config, node.name)) for node in config.nodes]
    return Made(config, driver, Journal(Path(state) / JOURNAL), Cluster(config, nodes))
