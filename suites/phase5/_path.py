"""What the path between two nodes carries, as phase 1 measures it (INF-08): what a collective over it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from pytest_ai_how.cluster import Cluster, Nodes
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements

from .._streams import rate, serving, stream
from ..phase1._mesh import Pair
from ..phase1._throughput import LOOPBACK, possible


@dataclass(frozen=True, slots=True)
class Path:
    """One direction of a path: MiB/s that one stream of TCP moved, and that could be moved at most."""

    link: Pair
    carried: float
    ceiling: float


def both_ways(
    cluster: Cluster, names: tuple[str, str], cards: Mapping[str, Mapping[str, float]], evidence: Evidence
) -> tuple[Path, Path]:
    """Stream from each of two nodes to the other, one after the other, once each has streamed to itself."""
    first, second = (cluster[name] for name in names)
    with ExitStack() as servers:
        for node in (first, second):
            servers.enter_context(serving(node))
        alone = Nodes([first, second]).map(lambda node: stream(node, LOOPBACK))
        there, back = stream(first, second.address), stream(second, first.address)
    links = Pair(*names), Pair(*reversed(names))
    for name, told in alone.items():
        evidence.result(told, f"{name}: to itself")
    for link, told in zip(links, (there, back), strict=True):
        evidence.result(told, str(link))
    most = {name: rate(told) for name, told in alone.items()}
    return Path(links[0], rate(there), possible(links[0], most, cards)), Path(
        links[1], rate(back), possible(links[1], most, cards)
    )


def judge(metric: str, reached: float, node: str, paths: tuple[Path, ...], measure: Measurements, samples: int) -> None:
    """Judge each direction by what it could carry, and the collective by what the slower one carried.

    All figures are recorded. Where a direction is too slow, the failure says so, and blames no collective over it.
    """
    slow = ""
    for path in paths:
        measure.ceiling("network.path", path.ceiling, "MiB/s", node=str(path.link))
        try:
            measure("network.throughput", path.carried, "MiB/s", node=str(path.link))
        except LimitExceeded as error:
            slow = slow or str(error)
    carried = min(path.carried for path in paths)
    try:
        measure(metric, reached, "MiB/s", node=node, ceiling=carried, samples=samples)
    except LimitExceeded:
        if not slow:
            raise
    if slow:
        raise LimitExceeded(
            f"{slow}; the path is slow, not the collective over it, which reached {reached:.0f} MiB/s; do: look at the "
            "cards, cables and switches between these nodes, and at who else uses them"
        )
