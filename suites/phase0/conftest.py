"""Fixtures of phase 0 only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.network import host_links, host_routes

from ._samples import Answer, Ways, ask


@pytest.fixture
def asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str, str], Answer]:
    """Ask the command line about a file of this content: ``asked(name, content)``."""

    def answer(name: str, content: str) -> Answer:
        path = tmp_path / f"{name}.yaml"
        path.write_text(content, encoding="utf-8")
        status = ask(str(path))
        return Answer(status, capfd.readouterr().err.replace(f"{tmp_path}/", ""))

    return answer


@pytest.fixture
def ways() -> Ways:
    """The interfaces and routes of this host as they are now."""
    return Ways(host_links(), host_routes())


@pytest.fixture
def plain(cluster_config: ClusterConfig) -> dict[str, object]:
    """The configuration as the plain values of a file."""
    values: dict[str, object] = cluster_config.model_dump(mode="json")
    return values
