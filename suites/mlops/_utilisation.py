"""How busy GPUs were while a job trained."""

from __future__ import annotations

from statistics import median

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ._curves import chart
from ._trained import Trained


def busy(trained: Trained, rank: int, evidence: Evidence, measure: Measurements, metric: str) -> None:
    """Judge the median utilisation of the GPU of one process after the first epoch, and attach its curve."""
    values = trained.utilisation(rank)
    evidence.attach(f"nvidia-smi, rank {rank}", trained.gpus.get(rank, "") or "nothing was written")
    assert values, (
        f"{trained.label}: nvidia-smi said nothing of the GPU of rank {rank} after the first epoch; expected a line "
        "each half second; do: train for longer (--scale=full)"
    )
    points = [(number / 2, value) for number, value in enumerate(values)]
    picture = chart(f"utilisation, {trained.label}, rank {rank}", "seconds", "%", {"GPU": points})
    evidence.attach(f"utilisation-{rank}.svg", picture, "image/svg+xml")
    if measure.limits[metric].gate is None:
        evidence.attach("not judged", f"{metric} is recorded only: {measure.limits[metric].source}")
    measure(metric, median(values), "%", node=trained.ended.node, samples=len(values))
