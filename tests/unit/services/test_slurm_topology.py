"""The ways to two GPUs, on what Slurm 24.11.5 wrote (tests/data/slurm), and on what it would have written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_ai_how.services.slurm import NodeRecord
from pytest_ai_how.services.slurm.topology import Topology, topologies, why_none

from .test_slurm_records import PARSERS, load


def two(first: int, second: int, *, parser: str = "v0.0.42", **other: object) -> tuple[NodeRecord, ...]:
    """The captured nodes with so many GPUs, and changes to the second."""
    node01, node02 = map(NodeRecord.of, load("scontrol-node", "nodes", parser))
    return replace(node01, gpus=first), replace(node02, gpus=second, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize("parser", PARSERS)
def test_both_ways_of_the_captured_nodes_and_one_node_comes_first(parser: str) -> None:
    found = topologies(map(NodeRecord.of, load("scontrol-node", "nodes", parser)))
    assert found == (Topology(("node01",), 2, "gpu"), Topology(("node01", "node02"), 1, "gpu"))
    assert [str(one) for one in found] == ["1×2 on node01", "2×1 on node01, node02"]


@pytest.mark.parametrize(
    ("nodes", "ways"),
    [
        (two(1, 1), ["2×1 on node01, node02"]),
        (two(0, 2), ["1×2 on node02"]),
        (two(1, 2), ["1×2 on node02", "2×1 on node01, node02"]),
        (two(8, 0), ["1×2 on node01"]),
        (two(2, 1, states=("DOWN",)), ["1×2 on node01"]),
        (two(1, 1, states=("IDLE", "DRAIN")), []),
        (two(1, 1, partitions=("other",)), []),
        (two(1, 1, partitions=("debug",)), ["2×1 on node01, node02"]),
        (two(1, 0), []),
        (two(0, 0), []),
        ((), []),
    ],
)
def test_what_the_nodes_allow(nodes: tuple[NodeRecord, ...], ways: list[str]) -> None:
    assert [str(one) for one in topologies(nodes)] == ways


def test_nodes_share_the_partition() -> None:
    assert topologies(two(1, 1, partitions=("debug",)))[0].partition == "debug"


def test_what_a_job_asks_for() -> None:
    one, other = topologies(two(2, 2))
    assert one.options == {
        "partition": "gpu",
        "nodelist": "node01",
        "nodes": 1,
        "ntasks": 2,
        "ntasks_per_node": 2,
        "gres": "gpu:2",
    }
    assert (other.options["nodes"], other.options["ntasks"], other.options["gres"]) == (2, 2, "gpu:1")


def test_more_than_two() -> None:
    assert [str(way) for way in topologies(two(4, 4), 4)] == ["1×4 on node01"]
    assert topologies(two(2, 2), 4) == ()
    assert [str(way) for way in topologies(two(2, 2), 1)] == ["1×1 on node01"]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (two(1, 0), "no job can hold 2 GPUs: Slurm has 1 on node01"),
        (two(1, 1, states=("DOWN",)), "no job can hold 2 GPUs: Slurm has 1 on node01; 1 on node02, which is DOWN"),
        (two(0, 0), "no job can hold 2 GPUs: Slurm has none"),
    ],
)
def test_why_there_is_none(nodes: tuple[NodeRecord, ...], reason: str) -> None:
    assert why_none(nodes) == reason
