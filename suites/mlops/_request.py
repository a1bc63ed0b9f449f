"""What a training job asks for: what the plan says, and no more than the machines have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_ai_how.launch import Limit
from pytest_ai_how.services.slurm import NodeRecord
from pytest_ai_how.services.slurm.topology import Topology


@dataclass(frozen=True, slots=True)
class Request:
    """What a job asks for: ``nodes`` machines (``on``), on each ``gpus`` GPUs and ``memory`` MiB, ``cpus`` a process.

    There is a process for each GPU, or one where there are none. 0 of memory asks for nothing in particular.
    """

    cpus: int
    memory: int
    gpus: int
    on: tuple[str, ...] = ()
    partition: str = ""

    @property
    def nodes(self) -> int:
        """How many machines."""
        return max(1, len(self.on))

    @property
    def per_node(self) -> int:
        """How many processes on each."""
        return max(1, self.gpus)

    def __str__(self) -> str:
        return (
            f"{self.nodes} × {self.per_node} processes with {self.cpus} CPUs each, {self.gpus} GPUs and "
            f"{self.memory} MiB a machine, on {', '.join(self.on) or 'any'}"
        )


def for_one(records: Sequence[NodeRecord], cpus: int, memory: int) -> Request:
    """A job of one process: on the first machine that takes jobs and has a GPU, or takes jobs at all.

    Raises :class:`AssertionError` where Slurm has none.
    """
    usable = [record for record in records if record.usable and record.partitions]
    seen = ", ".join(f"{record.name} {record.state}" for record in records) or "no node"
    assert usable, f"slurm: {seen}; expected a node that takes jobs; do: `sinfo -N -l`"
    record = next((one for one in usable if one.gpus), usable[0])
    return Request(
        min(cpus, record.cpus), min(memory, record.for_jobs), min(1, record.gpus), (record.name,), record.partitions[0]
    )


def for_topology(records: Sequence[NodeRecord], topology: Topology, cpus: int, memory: int) -> Request:
    """A job with a process for each GPU of ``topology``, on its machines, with what the smallest of them has."""
    mine = [record for record in records if record.name in topology.nodes]
    least = min(record.cpus for record in mine) // topology.per_node
    return Request(
        max(1, min(cpus, least)),
        min(memory, *(record.for_jobs for record in mine)),
        topology.per_node,
        topology.nodes,
        topology.partition,
    )


def describe(request: Request, records: Sequence[NodeRecord], cpus: int, memory: int, limit: Limit) -> str:
    """The plan, what is there, and what came of both, for the report."""
    lines = [f"planned    {cpus} CPUs a process, {memory} MiB a machine, {limit.wanted} min"]
    lines += [
        f"{record.name:<10} {record.cpus} CPUs, {record.for_jobs} MiB, {record.gpus} GPUs, {record.state}"
        for record in records
    ]
    return "\n".join([*lines, f"asked for  {request}, for {limit}"])
