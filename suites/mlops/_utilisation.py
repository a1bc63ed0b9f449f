"""How busy GPUs were while a job trained."""

from __future__ import annotations

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ._figures import deciding, recorded_only
from ._gpus import drawn
from ._trained import Trained


def busy(trained: Trained, rank: int, evidence: Evidence, measure: Measurements, metric: str) -> None:
    """Judge the median utilisation of the GPU of one process after the first epoch, and attach its curve."""
    values = trained.utilisation(rank)
    evidence.attach(f"nvidia-smi, rank {rank}", trained.gpus.get(rank, "") or "nothing was written")
    assert values, (
        f"{trained.label}: nvidia-smi said nothing of the GPU of rank {rank} after the first epoch; expected a line "
        "each half second; do: train for longer (--scale=full)"
    )
    deciding(measure, metric)
    drawn(evidence, measure, metric, values, f"{trained.label}, rank {rank}", trained.ended.node)


def busy_recorded(trained: Trained, evidence: Evidence, measure: Measurements, metric: str) -> None:
    """Record the same of each process where nothing judges it, and as far as anything was written."""
    if recorded_only(measure, metric):
        for rank in sorted(trained.gpus):
            if values := trained.utilisation(rank):
                drawn(evidence, measure, metric, values, f"{trained.label}, rank {rank}", trained.ended.node)
