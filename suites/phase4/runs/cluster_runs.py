"""What the small runs of the life-cycle checks test: each leaves a note of what it saw of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.deadline import pause, wait_for

WORKERS = 3


def told(name: str, cluster: Cluster) -> None:
    """Leave a note by rename: the process that looked, and the machine's first process and number."""
    machine = cluster.controller
    began = machine.read("/proc/1/stat").rpartition(")")[2].split()[19]
    fresh = Path(f"{name}.new")
    fresh.write_text(f"{os.getpid()} {began} {machine.read('/etc/machine-id').strip()}")
    fresh.rename(name)


@pytest.mark.parametrize("number", range(WORKERS))
def test_together(cluster: Cluster, number: int) -> None:
    """Ends when all have begun: each on a worker of its own."""
    told(f"worker{number}", cluster)
    wait_for(
        lambda: all(Path(f"worker{other}").exists() for other in range(WORKERS)), within=120, what="all workers here"
    )


def test_endless(cluster: Cluster) -> None:
    """Goes on until it is killed."""
    told("endless", cluster)
    pause(600)


def test_short(cluster: Cluster) -> None:
    """Looks once."""
    told("short", cluster)
