"""TASK-043: programs of several processes in containers: MPI, PyTorch over gloo, and over NCCL where GPUs are."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm

from ..phase1._throughput import SPEEDS, carried, ring
from ._collectives import (
    by_backend,
    exact,
    on_two_gpus,
    punctual,
    run_in_container,
    same_parameters,
    slowest,
    whole_epochs,
)
from ._mpi import right_collectives, run
from ._narrow import everyone, on_nodes, two
from ._path import judge
from ._ranks import Place, Ran, placed

pytestmark = pytest.mark.requires("apptainer", "slurm", "shared-storage", "compute.several")

#: MiB of a tensor that is reduced, and how often.
TENSOR, TIMES = 32, 5


@pytest.mark.check("CON-16")
@pytest.mark.requires("image.mpi")
def test_mpi(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Two ranks on each node, in containers, pass objects and memory and get all collectives right: four on two."""
    image = registry.path("mpi")

    def collectives(at: Place) -> None:
        with placed(slurm, run_id, "mpi/ranks.py", "mpi/collectives.py") as folder:
            right_collectives(run(slurm, evidence, at, image, f"{folder}/collectives.py"))

    on_nodes(slurm, evidence, everyone(slurm), 2, collectives)


@pytest.mark.check("CON-17")
@pytest.mark.requires("image.pytorch")
def test_training_over_gloo(
    slurm: Slurm, registry: Registry, evidence: Evidence, measure: Measurements, run_id: str
) -> None:
    """Two processes on two nodes train as one: same parameters, each sample once, and as one process alone would."""
    image = registry.path("pytorch")

    def train(at: Place) -> Ran:
        ran = run_in_container(slurm, evidence, run_id, image, "ddp", at=at)
        by_backend(ran, "gloo")
        same_parameters(ran)
        whole_epochs(ran)
        return ran

    ran = on_nodes(slurm, evidence, two(slurm), 1, train)
    for told in ran.told:
        measure("training.apart", told["apart"], "fraction", node=told["node"])


@pytest.mark.check("CON-17")
@pytest.mark.requires("image.pytorch")
def test_collectives_over_gloo(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Over all nodes all_reduce, broadcast and all_gather are exact, and a barrier holds everybody up."""
    image = registry.path("pytorch")

    def collectives(at: Place) -> None:
        ran = run_in_container(slurm, evidence, run_id, image, "collectives", at=at)
        by_backend(ran, "gloo")
        exact(ran)
        punctual(ran)

    on_nodes(slurm, evidence, everyone(slurm), 1, collectives)


@pytest.mark.check("CON-17")
@pytest.mark.requires("image.pytorch", "network.throughput")
@pytest.mark.reads(SPEEDS)
@pytest.mark.exclusive
def test_bandwidth_over_gloo(
    slurm: Slurm, registry: Registry, facts: Facts, evidence: Evidence, measure: Measurements, run_id: str
) -> None:
    """all_reduce between two nodes uses its share of what their path carries, and that its share of what it could."""
    image, names, cards = registry.path("pytorch"), two(slurm), facts(SPEEDS)

    def reduce(at: Place) -> tuple[str, float]:
        ran = run_in_container(slurm, evidence, run_id, image, "bandwidth", str(TENSOR), str(TIMES), at=at)
        by_backend(ran, "gloo")
        return slowest(ran)

    node, reached = on_nodes(slurm, evidence, names, 1, reduce)
    paths = carried(slurm.cluster, ring(names), cards, evidence)
    judge("collective.gloo.all_reduce", reached, node, paths, measure, TIMES)


@pytest.mark.check("CON-18")
@pytest.mark.requires("gpu.real", "gpu.pair", "image.pytorch")
def test_nccl(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Two GPUs of one job, each with a process of its own in a container, reduce by NCCL."""
    ran = on_two_gpus(slurm, registry, evidence, run_id)("collectives")
    by_backend(ran, "nccl")
    exact(ran, "all_reduce", "single")
