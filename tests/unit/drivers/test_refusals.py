"""All that stands in the way of virtual machines is told at once, on a host that has nothing of libvirt as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.libvirt import daemon
from pytest_ai_how.drivers.libvirt.driver import LibvirtDriver
from pytest_ai_how.errors import HostError


def huge() -> ClusterConfig:
    """The workstation's training cluster with more memory than any host has."""
    config = load_config("workstation/hpc", environ={})
    nodes = tuple(node.model_copy(update={"memory": 64 * 1024 * 1024}) for node in config.nodes)
    return config.model_copy(update={"nodes": nodes})


def nothing(*_: object) -> Path:
    raise AssertionError("a plan builds no image")


def test_memory_is_told_where_there_is_no_libvirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def none() -> str:
        raise HostError("localhost", "no libvirt daemon answers", cure="start one")

    monkeypatch.setattr(daemon, "chosen_daemon", none)
    found = LibvirtDriver(nothing, lambda *_: "digest", lambda: "").refusals(huge())
    assert [error.where for error in found] == ["localhost", "localhost"]
    assert found[0].seen == "no libvirt daemon answers"
    assert found[1].seen.endswith(" MiB of memory available")
    assert "for the machines of 'hpc-cluster' that start" in found[1].expected
    assert list(tmp_path.iterdir()) == []
