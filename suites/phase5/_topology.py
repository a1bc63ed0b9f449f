"""On which nodes this cluster gives one job two GPUs."""

from __future__ import annotations

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.topology import Topology, topologies, why_none


def pairs(slurm: Slurm, evidence: Evidence) -> tuple[Topology, ...]:
    """All ways in which one job can hold two GPUs, the best first; that there is none is a failure."""
    records = tuple(slurm.nodes().values())
    evidence.attach("scontrol show node", "\n".join(map(str, records)))
    found = topologies(records)
    assert found, (
        f"{slurm.cluster.controller.name}: {why_none(records)}; expected two, as the cluster's YAML says; do: compare "
        "`scontrol show node` with it"
    )
    evidence.attach("topologies", "\n".join(map(str, found)))
    return found


def pair(slurm: Slurm, evidence: Evidence) -> Topology:
    """The best of them."""
    return pairs(slurm, evidence)[0]
