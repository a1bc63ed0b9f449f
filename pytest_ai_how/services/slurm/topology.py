"""On which nodes a job gets several GPUs: all on one, or one on each of several. Told by Slurm's own records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_ai_how.services.slurm.options import JobOptions
from pytest_ai_how.services.slurm.records import NodeRecord


@dataclass(frozen=True, slots=True)
class Topology:
    """``per_node`` GPUs on each of ``nodes``; ``str()`` is nodes × GPUs: ``2×1 on node01, node02``."""

    nodes: tuple[str, ...]
    per_node: int
    partition: str

    def __str__(self) -> str:
        return f"{len(self.nodes)}×{self.per_node} on {', '.join(self.nodes)}"

    @property
    def gpus(self) -> int:
        """How many GPUs in all, and so how many tasks."""
        return len(self.nodes) * self.per_node

    @property
    def options(self) -> JobOptions:
        """What a job with a task for each GPU asks Slurm for."""
        return {
            "partition": self.partition,
            "nodelist": ",".join(self.nodes),
            "nodes": len(self.nodes),
            "ntasks": self.gpus,
            "ntasks_per_node": self.per_node,
            "gres": f"gpu:{self.per_node}",
        }


def topologies(records: Iterable[NodeRecord], gpus: int = 2) -> tuple[Topology, ...]:
    """The ways in which one job can hold ``gpus`` GPUs, the best first.

    All on one node comes before one on each, because GPUs of one node talk faster. Only nodes that take jobs count.
    Nodes of one job have a partition in common.
    """
    usable = [record for record in records if record.usable and record.gpus]
    partitions = tuple(dict.fromkeys(name for record in usable for name in record.partitions))
    found: list[Topology] = []
    for record in usable:
        if record.gpus >= gpus and record.partitions:
            found.append(Topology((record.name,), gpus, record.partitions[0]))
            break
    for partition in partitions:
        names = tuple(record.name for record in usable if partition in record.partitions)[:gpus]
        if len(names) == gpus > 1:
            found.append(Topology(names, 1, partition))
            break
    return tuple(found)


def why_none(records: Iterable[NodeRecord], gpus: int = 2) -> str:
    """What Slurm has instead, in words: ``1 GPU on node01; node02 is DOWN with 1``."""
    seen = [record for record in records if record.gpus]
    words = [
        f"{record.gpus} on {record.name}"
        if record.usable
        else f"{record.gpus} on {record.name}, which is {record.state}"
        for record in seen
    ]
    return f"no job can hold {gpus} GPUs: Slurm has {'; '.join(words) or 'none'}"
