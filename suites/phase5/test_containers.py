"""TASK-043: programs of several processes in containers: MPI, PyTorch over gloo, and over NCCL where GPUs are."""

from __future__ import annotations

import statistics

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import JobOptions, Slurm

from ._collectives import (
    by_backend,
    exact,
    punctual,
    run_in_container,
    same_parameters,
    slowest,
    whole_epochs,
)
from ._mpi import right_collectives
from ._ranks import Shape, expect, in_place, launch, placed
from ._topology import pair

pytestmark = pytest.mark.requires("apptainer", "slurm", "shared-storage", "compute.several")

#: MiB on each node: for each rank an interpreter, and the process that serves the image by FUSE.
MEMORY = 384
#: Two processes on two nodes.
APART: JobOptions = {"nodes": 2, "ntasks": 2, "ntasks_per_node": 1}
#: MiB of a tensor that is reduced, and how often.
TENSOR, TIMES = 32, 5


@pytest.mark.check("CON-16")
@pytest.mark.requires("image.mpi")
def test_mpi(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Four ranks in containers on two nodes pass objects and memory, and get all collectives right."""
    shape, image = Shape(2, 2), registry.path("mpi")
    with placed(slurm, run_id, "mpi/ranks.py", "mpi/collectives.py") as folder:
        argv = command("exec", image, "python3", f"{folder}/collectives.py", binds=[folder])
        ran = launch(slurm, evidence, "collectives", shape, argv, mpi="pmix", mem=MEMORY)
    in_place(ran, shape)
    for told in ran.told:
        expect(ran, told, "container", image)
    right_collectives(ran)


@pytest.mark.check("CON-17")
@pytest.mark.requires("image.pytorch")
def test_training_over_gloo(
    slurm: Slurm, registry: Registry, evidence: Evidence, measure: Measurements, run_id: str
) -> None:
    """Two processes on two nodes train as one: same parameters, each sample once, and as one process alone would."""
    ran = run_in_container(slurm, evidence, run_id, registry.path("pytorch"), "ddp", options=APART)
    by_backend(ran, "gloo")
    same_parameters(ran)
    whole_epochs(ran)
    for told in ran.told:
        measure("training.apart", told["apart"], "fraction", node=told["node"])


@pytest.mark.check("CON-17")
@pytest.mark.requires("image.pytorch")
def test_collectives_over_gloo(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Between two nodes, all_reduce, broadcast and all_gather are exact, and a barrier holds everybody up."""
    ran = run_in_container(slurm, evidence, run_id, registry.path("pytorch"), "collectives", options=APART)
    by_backend(ran, "gloo")
    exact(ran)
    punctual(ran)


@pytest.mark.check("CON-17")
@pytest.mark.requires("image.pytorch")
@pytest.mark.exclusive
def test_bandwidth_over_gloo(
    slurm: Slurm, registry: Registry, evidence: Evidence, measure: Measurements, run_id: str
) -> None:
    """all_reduce between two nodes uses its share of what a plain TCP stream moved between them in the same job."""
    image, args = registry.path("pytorch"), (str(TENSOR), str(TIMES))
    ran = run_in_container(slurm, evidence, run_id, image, "bandwidth", *args, options=APART)
    by_backend(ran, "gloo")
    node, reached = slowest(ran)
    receiver = ran.told[0]
    assert receiver["stream"], f"{receiver['node']}: received no stream from {ran.told[-1]['node']}"
    measure.ceiling("network.stream", TENSOR / statistics.median(receiver["stream"]), "MiB/s", node=node)
    measure("collective.gloo.all_reduce", reached, "MiB/s", node=node, samples=TIMES)


@pytest.mark.check("CON-18")
@pytest.mark.requires("gpu.real", "gpu.pair", "image.pytorch")
def test_nccl(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Two GPUs of one job, each with a process of its own in a container, reduce by NCCL."""
    options = pair(slurm, evidence).options
    image = registry.path("pytorch")
    ran = run_in_container(slurm, evidence, run_id, image, "collectives", gpus=True, options=options)
    by_backend(ran, "nccl")
    exact(ran, "all_reduce", "single")
