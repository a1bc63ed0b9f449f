"""Fixtures of phase 5 only."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_ai_how.config.models import ClusterConfig
    from pytest_ai_how.report.evidence import Evidence
    from pytest_ai_how.services.registry import Registry

    from ._ranks import Ran


@pytest.fixture
def mpi_image(request: pytest.FixtureRequest) -> str:
    """The path of the image whose name the test's parameter is; '' for the nodes themselves."""
    name = str(request.param)
    return cast("Registry", request.getfixturevalue("registry")).path(name) if name else ""


@pytest.fixture
def two_gpus(
    cluster_config: ClusterConfig, evidence: Evidence, run_id: str, request: pytest.FixtureRequest
) -> Callable[..., Ran]:
    """Runs a program of ``payloads/distributed`` on two GPUs: ``two_gpus("bandwidth", "256", "20")``.

    In containers under Slurm where there are both, else by torchrun on one machine.
    """
    if cluster_config.slurm is not None and cluster_config.containers.runtime != "none":
        from ._collectives import on_two_gpus

        slurm, registry = request.getfixturevalue("slurm"), request.getfixturevalue("registry")
        return on_two_gpus(slurm, registry, evidence, run_id)
    from ._torchrun import run_by_torchrun

    launcher, pytorch = request.getfixturevalue("launcher"), request.getfixturevalue("pytorch")
    return lambda program, *args: run_by_torchrun(launcher, pytorch, evidence, run_id, program, *args)
