"""How much faster two processes do the work of one."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from pytest_ai_how.report.measurements import Measurements

from .._figures import deciding, recorded_only
from .._metrics import Metrics
from ._run import GPUS, Runs

#: Metrics; the last part of the name of each is ``gpu`` with the scale, or ``cpu``.
SPEED_UP, EFFICIENCY = "distributed.speed_up", "distributed.efficiency"
#: What share of the factor each metric counts.
_SHARES = {SPEED_UP: 1.0, EFFICIENCY: 1 / GPUS}


@dataclass(frozen=True, slots=True)
class Speeds:
    """How often faster two were than one, on which device, on whose first machine, and of how many epochs."""

    factor: float
    device: str
    node: str
    epochs: int


def rate(metrics: Metrics) -> float:
    """Samples a second: the median of the epochs after the first, in which much is made ready."""
    return median(one.samples_per_second for one in metrics.history[1:])


def compared(runs: Runs, measure: Measurements) -> Speeds:
    """Measure both trainings, which must have done the same.

    As many samples and epochs, by the same network, the same batch a process.
    """
    together, alone = runs.cifar(), runs.alone()
    two, one = together.metrics(), alone.metrics()
    for name in ("dataset", "model", "samples", "epochs", "batch", "device"):
        assert getattr(two, name) == getattr(one, name), (
            f"{together.label}: has {name} {getattr(two, name)!r}, {alone.label} {getattr(one, name)!r}; the same work "
            "is expected"
        )
    counts = (one.processes, two.processes)
    assert counts == (1, GPUS), (
        f"{together.label}: {counts[1]} processes against {counts[0]}, expected {GPUS} against 1"
    )
    rates = rate(one), rate(two)
    runs.evidence.attach("samples a second", f"1 process    {rates[0]:.1f}\n{GPUS} processes  {rates[1]:.1f}")
    node, count = together.ended.node, len(two.history) - 1
    measure("distributed.rate.alone", rates[0], "samples/s", node=alone.ended.node, samples=count)
    measure("distributed.rate.together", rates[1], "samples/s", node=node, samples=count)
    return Speeds(rates[1] / rates[0], two.device, node, count)


def speed_up(runs: Runs, measure: Measurements, metric: str) -> None:
    """Judge how much faster two GPUs are than one."""
    kind, found = deciding(measure, runs.scale.metric(f"{metric}.gpu")), compared(runs, measure)
    assert found.device != "cpu", (
        f"{found.node}: both trainings were done by CPUs; expected GPUs; do: see that the "
        "image has PyTorch for GPUs (pytorch-cuda under containers.images)"
    )
    measure(kind, _SHARES[metric] * found.factor, "fraction", node=found.node, samples=found.epochs)


def speed_up_recorded(runs: Runs, measure: Measurements) -> None:
    """Record how much faster two are than one, where nothing judges it."""
    kinds = {runs.scale.metric(f"{one}.gpu") if runs.trainer.real else f"{one}.cpu": one for one in _SHARES}
    if open_kinds := {kind: _SHARES[one] for kind, one in kinds.items() if recorded_only(measure, kind)}:
        found = compared(runs, measure)
        for kind, share in open_kinds.items():
            measure(kind, share * found.factor, "fraction", node=found.node, samples=found.epochs)
