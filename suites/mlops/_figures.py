"""Figures that decide a check, and those that are only written down."""

from __future__ import annotations

from pytest_ai_how.report.measurements import Measurements


def deciding(measure: Measurements, metric: str) -> str:
    """The metric that decides a check; held to having a gate: without one the check would be green at any value."""
    assert not recorded_only(measure, metric), (
        f"{measure.limits.where(metric)}: {metric} has no gate, so nothing would be judged; expected a gate; do: "
        f"--scale=full, or write one there ({measure.limits[metric].source})"
    )
    return metric


def recorded_only(measure: Measurements, metric: str) -> bool:
    """Whether no value of the metric is a failure."""
    return measure.limits[metric].gate is None
