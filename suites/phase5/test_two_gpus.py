"""MLOPS-2.1: two GPUs for one job, on one node or on two: which, exact collectives, and how fast they are."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import JobOptions, Slurm
from pytest_ai_how.services.slurm.topology import Topology
from pytest_ai_how.services.storage.baseline import Baseline

from ..phase6._containers import cause, culprit
from ._collectives import by_backend, exact, punctual, slowest
from ._ranks import Ran
from ._topology import pairs

pytestmark = pytest.mark.requires("gpu.pair", "shared-storage")

#: MiB of a task that only says where it is.
SMALL = 32
#: MiB of a tensor that is reduced, large enough for the links to be busy, and how often.
TENSOR, TIMES = 256, 20
#: What each task says: its rank, its node, and the GPUs that Slurm gave it, as CUDA numbers them.
WHERE = (
    """printf '{"rank": %s, "node": "%s", "gpus": "%s"}\\n' "$SLURM_PROCID" "$(hostname)" "$CUDA_VISIBLE_DEVICES\""""
)


@pytest.mark.check("TR2-01")
@pytest.mark.requires("slurm")
def test_topology(slurm: Slurm, evidence: Evidence) -> None:
    """One job holds two GPUs as Slurm's records of the nodes say that it can: 1×2 or 2×1, each where both are there."""
    for topology in pairs(slurm, evidence):
        result = slurm.srun("sh", "-c", WHERE, **topology.options | JobOptions(mem=SMALL, mpi="none"))
        evidence.result(result, str(topology))
        assert result.ok, (
            f"{culprit(result)}: two GPUs as {topology} were refused: {cause(result)}; expected what "
            "`scontrol show node` says is there"
        )
        granted(topology, [json.loads(line) for line in result.stdout.splitlines()])


def granted(topology: Topology, told: list[dict[str, str]]) -> None:
    """A task for each GPU, on the nodes of the topology, which see as many GPUs as were asked for there."""
    nodes = sorted(one["node"] for one in told)
    wanted = sorted(topology.nodes * topology.per_node)
    first = topology.nodes[0]
    assert nodes == wanted, f"{first}: {topology}: tasks ran on {', '.join(nodes) or 'no node'}, expected {wanted}"
    for one in told:
        gpus = [word for word in one["gpus"].split(",") if word]
        assert len(set(gpus)) == topology.per_node, (
            f"{one['node']}: {topology}: task {one['rank']} has the GPUs {one['gpus'] or 'none'}, expected "
            f"{topology.per_node}; do: check gres.conf there"
        )


@pytest.mark.check("TR2-02")
@pytest.mark.requires("gpu.real", "pytorch")
def test_collectives_over_nccl(two_gpus: Callable[..., Ran]) -> None:
    """Between two GPUs, all_reduce, broadcast and all_gather are exact, and a barrier holds everybody up."""
    ran = two_gpus("collectives")
    by_backend(ran, "nccl")
    exact(ran)
    punctual(ran)


@pytest.mark.check("TR2-03")
@pytest.mark.exclusive
@pytest.mark.requires("gpu.real", "pytorch")
def test_bandwidth_over_nccl(
    two_gpus: Callable[..., Ran], evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    """The bus bandwidth of all_reduce between two GPUs is no fifth lower than in earlier runs."""
    ran = two_gpus("bandwidth", str(TENSOR), str(TIMES))
    by_backend(ran, "nccl")
    node, reached = slowest(ran)
    metric = "collective.nccl.all_reduce"
    before = baseline.median(metric)
    baseline.keep(metric, reached)
    evidence.attach("earlier runs", baseline.describe(metric) or "none")
    measure(metric, reached, "MiB/s", node=node, samples=TIMES)
    if before is not None:
        measure(f"{metric}.vs_baseline", reached / before, "fraction", node=node)
