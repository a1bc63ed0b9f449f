from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.errors import CatalogueError
from pytest_ai_how.limits import Limits, load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.items import Measurement
from pytest_ai_how.report.measurements import InvalidMeasurement, LimitExceeded, Measurements

FILE = Path(__file__).parents[2] / "data" / "report" / "limits.yaml"


@pytest.fixture
def limits() -> Limits:
    return load_limits(str(FILE))


def test_a_good_figure_is_recorded_with_its_limit_and_share(limits: Limits) -> None:
    got = Measurements(limits).measure("storage.seq_write", 80.0, "MiB/s", node="node01", ceiling=100.0)
    assert (got.verdict, got.fraction, got.stretch) == ("ok", 0.8, "missed")
    assert got.limit == "at least 40 MiB/s (40% of storage.raw.seq_write, 100 MiB/s)"
    assert got.where.endswith("limits.yaml:5")


def test_a_figure_outside_its_limit_names_node_limit_place_and_attachment(limits: Limits) -> None:
    evidence = Evidence()
    evidence.attach("fio.json", "{}")
    measurements = Measurements(limits, evidence)
    with pytest.raises(LimitExceeded) as caught:
        measurements.measure("storage.seq_write", 12.3, "MiB/s", node="node01", ceiling=100.0)
    assert str(caught.value) == (
        "node01: storage.seq_write is 12.3 MiB/s, expected at least 40 MiB/s (40% of storage.raw.seq_write, "
        f"100 MiB/s) [{FILE}:5: STO-18]; see attachment 'fio.json'"
    )
    assert [(m.value, m.verdict) for m in measurements.items] == [(12.3, "exceeded")]


def test_more_than_physics_allows_is_invalid_not_good(limits: Limits) -> None:
    measurements = Measurements(limits)
    with pytest.raises(InvalidMeasurement, match=r"node01: storage\.seq_write is 900 MiB/s, above the physical limit"):
        measurements.measure("storage.seq_write", 900.0, "MiB/s", node="node01", ceiling=100.0)
    assert measurements.items[0].verdict == "invalid"


@pytest.mark.parametrize(
    ("value", "samples", "why"),
    [
        (float("nan"), 1, "storage.random_read is nan ops/s: not a number"),
        (float("inf"), 1, "storage.random_read is inf ops/s: not a number"),
        (-1.0, 1, "storage.random_read is -1 ops/s: negative"),
        (0.0, 1, "storage.random_read is 0 ops/s: nothing was moved"),
        (50.0, 0, "storage.random_read is 50 ops/s: it has no samples"),
    ],
)
def test_what_is_no_measurement_is_refused_even_without_a_limit(
    limits: Limits, value: float, samples: int, why: str
) -> None:
    measurements = Measurements(limits)
    with pytest.raises(InvalidMeasurement, match=f"^node01: {why}"):
        measurements.measure("storage.random_read", value, "ops/s", node="node01", samples=samples)
    (kept,) = measurements.items
    assert (kept.verdict, kept.samples) == ("invalid", samples)
    back = Measurement.model_validate_json(kept.model_dump_json())
    assert repr(back.value) == repr(value)


def test_a_metric_without_limit_is_recorded_and_never_fails(limits: Limits) -> None:
    assert Measurements(limits).measure("storage.random_read", 5.0, "ops/s").verdict == "recorded"


def test_a_duration_of_zero_is_a_measurement(limits: Limits) -> None:
    assert Measurements(limits).measure("slurm.submit", 0.0, "s").verdict == "ok"


def test_the_ceiling_measured_for_the_same_node_is_taken(limits: Limits) -> None:
    measurements = Measurements(limits)
    measurements.ceiling("storage.raw.seq_write", 999.0, "MiB/s", node="node02")
    measurements.ceiling("storage.raw.seq_write", 100.0, "MiB/s", node="node01")
    got = measurements.measure("storage.seq_write", 50.0, "MiB/s", node="node01")
    assert (got.ceiling, got.verdict) == (100.0, "ok")
    assert [m.verdict for m in measurements.items] == ["ceiling", "ceiling", "ok"]


def test_a_missing_ceiling_is_our_mistake_and_the_figure_is_kept(limits: Limits) -> None:
    measurements = Measurements(limits)
    measurements.ceiling("storage.raw.seq_write", 100.0, "MiB/s", node="node02")
    with pytest.raises(CatalogueError, match=r"storage\.seq_write was measured without its ceiling"):
        measurements.measure("storage.seq_write", 50.0, "MiB/s", node="node01")
    assert [m.value for m in measurements.items] == [100.0, 50.0]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_ceiling_that_bounds_nothing_is_refused(limits: Limits, value: float) -> None:
    measurements = Measurements(limits)
    with pytest.raises(InvalidMeasurement, match=r"node01: storage\.raw\.seq_write is "):
        measurements.ceiling("storage.raw.seq_write", value, "MiB/s", node="node01")
    assert measurements.items[0].verdict == "invalid"


def test_unknown_metrics_and_units_are_our_mistake(limits: Limits) -> None:
    measurements = Measurements(limits)
    with pytest.raises(CatalogueError, match=r"did you mean 'storage\.seq_write'"):
        measurements.measure("storage.seq_wirte", 1.0, "MiB/s")
    with pytest.raises(CatalogueError, match=r"was measured in 'ms'"):
        measurements.measure("slurm.submit", 1.0, "ms")
    assert measurements.items == ()
