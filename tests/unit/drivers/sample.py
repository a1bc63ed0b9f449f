"""Configurations and captured output that the drivers' tests share."""

import json
from pathlib import Path
from typing import Any

from pytest_ai_how.config.models import ClusterConfig

DATA = Path(__file__).parents[2] / "data" / "drivers"

LOCAL: dict[str, Any] = {
    "version": 1,
    "name": "lab",
    "driver": "nspawn",
    "network": {"subnet": "10.99.0.0/24", "bridge": "aihow-lab"},
    "nodes": [
        {"name": "controller", "roles": ["controller"], "address": "10.99.0.10", "cpus": 1, "memory": 2048},
        {
            "name": "node01",
            "roles": ["compute"],
            "address": "10.99.0.11",
            "cpus": 1,
            "memory": 1024,
            "gpus": {"kind": "simulated", "count": 2},
        },
        {"name": "node02", "roles": ["compute"], "address": "10.99.0.12", "cpus": 1, "memory": 1000},
    ],
    "slurm": {
        "cluster": "lab",
        "partitions": [
            {"name": "gpu", "nodes": ["node01"], "default": True, "max_time": "01:00:00"},
            {"name": "debug", "nodes": ["node01", "node02"]},
        ],
    },
}


def config(**changes: Any) -> ClusterConfig:
    """The sample configuration, with top-level keys replaced."""
    return ClusterConfig.model_validate(LOCAL | changes)


def with_node(index: int, **changes: Any) -> ClusterConfig:
    """The sample configuration, with keys of one node replaced."""
    nodes = [dict(node) for node in LOCAL["nodes"]]
    nodes[index] |= changes
    return config(nodes=nodes)


def captured(name: str) -> Any:
    """JSON as iproute2 6.1 wrote it on a Debian 12 machine that runs another cluster of ours (10.83.0.0/24)."""
    return json.loads((DATA / name).read_text())
