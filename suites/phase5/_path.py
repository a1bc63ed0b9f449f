"""The path between two nodes (INF-08), by which a collective over it is judged."""

from __future__ import annotations

from pytest_ai_how.report.measurements import LimitExceeded, Measurements

from ..phase1._throughput import Path


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
