"""Limits: read from data, judged with unit, ceiling and source."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.errors import CatalogueError, ConfigError
from pytest_ai_how.limits import Limits, limits_names, load_limits, units

DATA = Path(__file__).parents[1] / "data" / "limits"
TEXT = """\
metrics:
  disk.raw: {unit: MiB/s, source: the medium}
  disk.write:
    unit: MiB/s
    of: disk.raw
    gate: {min_fraction: 0.5, max_fraction: 1.2}
    stretch: {min: 90}
    physical_max_fraction: 1.25
    source: row X
  job.start: {unit: s, gate: {max: 5}, source: row Y}
  job.done: {unit: "%", gate: {min: 99}, source: row Z}
  job.rate: {unit: jobs/s, source: recorded}
  disk.share: {unit: fraction, gate: {min: 0.5}, stretch: {min: 1}, physical_max: 3, source: row W}
  disk.small: {unit: ops/s, of: disk.ops, gate: {min_fraction: 0.003}, source: row V}
  disk.ops: {unit: ops/s, source: the medium}
  disk.most: {unit: MiB/s, of: disk.raw, physical_max: 200, physical_max_fraction: 3, source: recorded}
"""


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    path = tmp_path / "site.yaml"
    path.write_text(TEXT)
    return load_limits(str(path))


@pytest.mark.parametrize("name", limits_names())
def test_every_shipped_file_loads_and_says_where_its_numbers_come_from(name: str) -> None:
    limits = load_limits(name)
    assert len(limits) > 0
    for metric in limits:
        assert limits[metric].source.strip(), f"{limits.where(metric)}: {metric} has no source"
        assert limits[metric].unit in units()


def test_local_covers_phase_6() -> None:
    wanted = {"storage.raw.seq_write", "storage.seq_write", "storage.seq_read", "storage.scaling_efficiency"}
    wanted |= {"registry.visibility", "slurm.submit_to_start", "slurm.short_jobs_completed", "slurm.cancel"}
    wanted |= {"container.start20", "container.pull", "container.convert", "cluster.bring_up"}
    assert wanted <= set(load_limits("local"))
    assert load_limits("local").judge("registry.visibility", 5.1, "s").outcome == "fail"


@pytest.mark.parametrize(
    ("metric", "value", "unit", "ceiling", "outcome"),
    [
        ("job.start", 5.0, "s", None, "pass"),
        ("job.start", 5.001, "s", None, "fail"),
        ("job.start", -1.0, "s", None, "invalid"),
        ("job.start", math.nan, "s", None, "invalid"),
        ("job.start", math.inf, "s", None, "invalid"),
        ("job.done", 99.0, "%", None, "pass"),
        ("job.done", 98.9, "%", None, "fail"),
        ("job.rate", 0.0, "jobs/s", None, "recorded"),
        ("disk.raw", 5000.0, "MiB/s", None, "recorded"),
        ("disk.write", 49.9, "MiB/s", 100.0, "fail"),
        ("disk.write", 50.0, "MiB/s", 100.0, "pass"),
        ("disk.write", 120.0, "MiB/s", 100.0, "pass"),
        ("disk.write", 121.0, "MiB/s", 100.0, "fail"),
        ("disk.write", 125.0, "MiB/s", 100.0, "fail"),
        ("disk.write", 125.1, "MiB/s", 100.0, "invalid"),
        ("disk.write", 50.0, "MiB/s", 0.0, "invalid"),
        ("disk.write", 50.0, "MiB/s", math.nan, "invalid"),
        ("disk.share", 0.4, "fraction", None, "fail"),
        ("disk.share", 3.0, "fraction", None, "pass"),
        ("disk.share", 3.01, "fraction", None, "invalid"),
        ("disk.most", 201.0, "MiB/s", 100.0, "invalid"),
        ("disk.most", 200.0, "MiB/s", 100.0, "recorded"),
        ("disk.most", 151.0, "MiB/s", 50.0, "invalid"),
    ],
)
def test_outcome(limits: Limits, metric: str, value: float, unit: str, ceiling: float | None, outcome: str) -> None:
    judgement = limits.judge(metric, value, unit, ceiling=ceiling)
    assert judgement.outcome == outcome
    assert judgement.ok == (outcome in ("pass", "recorded"))
    assert judgement.invalid == (outcome == "invalid")
    assert bool(judgement.reason) != judgement.ok


def test_a_share_of_less_than_one_percent_is_not_told_as_none(limits: Limits) -> None:
    told = limits.judge("disk.small", 400.0, "ops/s", ceiling=100000.0).limit
    assert told == "at least 300 ops/s (0.3% of disk.ops, 100000 ops/s)"


def test_words_of_a_failure(limits: Limits) -> None:
    judgement = limits.judge("disk.write", 40.0, "MiB/s", ceiling=100.0)
    assert judgement.reason == (
        f"disk.write is 40 MiB/s, expected at least 50 MiB/s (50% of disk.raw, 100 MiB/s) [{limits.file}:3: row X]"
    )
    assert judgement.limit == (
        "at least 50 MiB/s (50% of disk.raw, 100 MiB/s); at most 120 MiB/s (120% of disk.raw, 100 MiB/s)"
    )
    assert (judgement.fraction, judgement.where, judgement.source) == (0.4, f"{limits.file}:3", "row X")


def test_words_of_an_impossible_value(limits: Limits) -> None:
    judgement = limits.judge("disk.write", 900.0, "MiB/s", ceiling=100.0)
    assert judgement.reason.startswith(
        "disk.write is 900 MiB/s, above the physical limit of 125 MiB/s: it measured a cache ["
    )
    assert judgement.stretch == ""
    judgement = limits.judge("disk.share", 50.0, "fraction")
    assert judgement.reason == (
        f"disk.share is 50 fraction, above the physical limit of 3 fraction: it measured a cache "
        f"[{limits.file}:13: row W]"
    )
    assert judgement.stretch == ""


def test_no_profile_takes_a_share_of_storage_that_no_disk_can_give() -> None:
    layers = [
        f"storage.chain.{layer}.{way}" for layer in ("target", "shared", "container") for way in ("read", "write")
    ]
    for limits in (load_limits(name, emulated=emulated) for name in limits_names() for emulated in (False, True)):
        for metric in (*layers, "storage.scaling_efficiency"):
            assert limits.judge(metric, 1.2, "fraction").ok, f"{limits.where(metric)}: {metric}"
            assert limits.judge(metric, 50.0, "fraction").invalid, f"{limits.where(metric)}: {metric}"
        for metric, unit in (
            ("storage.virtiofs.seq_read", "MiB/s"),
            ("storage.virtiofs.seq_write", "MiB/s"),
            ("storage.seq_read", "MiB/s"),
            ("storage.seq_write", "MiB/s"),
            ("storage.vs_single_directory", "fraction"),
        ):
            assert limits.judge(metric, 1200.0, unit, ceiling=1000.0).ok, f"{limits.where(metric)}: {metric}"
            assert limits.judge(metric, 50_000.0, unit, ceiling=1000.0).invalid, f"{limits.where(metric)}: {metric}"


def test_stretch_is_reported_and_fails_nothing(limits: Limits) -> None:
    assert limits.judge("disk.write", 60.0, "MiB/s", ceiling=100.0).stretch == "missed"
    assert limits.judge("disk.write", 60.0, "MiB/s", ceiling=100.0).ok
    assert limits.judge("disk.write", 95.0, "MiB/s", ceiling=100.0).stretch == "met"
    assert limits.judge("job.start", 1.0, "s").stretch == ""


def test_unknown_metric(limits: Limits) -> None:
    with pytest.raises(CatalogueError) as caught:
        limits.judge("job.strat", 1.0, "s")
    assert str(caught.value) == (
        f"{limits.file}: no metric is named 'job.strat' (did you mean 'job.start'?)\n"
        "  do: declare it there with unit and source before measuring it"
    )


def test_other_unit_is_not_converted(limits: Limits) -> None:
    with pytest.raises(CatalogueError) as caught:
        limits.judge("job.start", 1000.0, "ms")
    assert str(caught.value) == (
        f"{limits.file}:10: job.start was measured in 'ms'\n  expected: s\n  do: measure in the declared unit"
    )


def test_fraction_without_its_ceiling(limits: Limits) -> None:
    with pytest.raises(
        CatalogueError, match=r":3: disk\.write was measured without its ceiling\n  expected: disk\.raw"
    ):
        limits.judge("disk.write", 60.0, "MiB/s")


def test_how_much_is_to_be_done_is_an_edge_of_what_is_good() -> None:
    local = load_limits("local")
    assert local.minimum("storage.integrity_volume", "MiB") == 954
    assert local.maximum("storage.stall.node", "s") == 180
    with pytest.raises(CatalogueError, match=r"storage\.visibility has no min, so nobody knows how much to do"):
        local.minimum("storage.visibility", "s")
    with pytest.raises(CatalogueError, match=r"storage\.random_read has no max, so nobody knows"):
        local.maximum("storage.random_read", "ops/s")


def test_membership_does_not_raise(limits: Limits) -> None:
    assert "job.start" in limits
    assert "nothing.known" not in limits


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"^configs/limits: no limits are named 'locl'; known: .*local.*'local'\?\)$"):
        load_limits("locl")


@pytest.mark.parametrize("sample", ["broken", "contradictory"])
def test_every_mistake_of_a_file_at_once(sample: str) -> None:
    path = DATA / f"{sample}.yaml"
    told = [line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")]
    assert len(told) == 5
    with pytest.raises(ConfigError) as caught:
        load_limits(str(path))
    assert str(caught.value).splitlines() == [f"{path}:{line}" for line in told]


def figures_in(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, metric and unit of each ``measure("a.b", value, "unit")`` and ``measure.ceiling(…)`` with plain words."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or len(call.args) < 3:
            continue
        name = call.func.value if isinstance(call.func, ast.Attribute) else call.func
        first, third = call.args[0], call.args[2]
        if not (isinstance(first, ast.Constant) and isinstance(third, ast.Constant)):
            continue
        if isinstance(name, ast.Name) and name.id == "measure":
            yield call.lineno, str(first.value), str(third.value)


def test_every_figure_of_the_suites_is_declared_in_its_unit() -> None:
    suites = Path(__file__).parents[2] / "suites"
    found = [
        (path, *figure) for path in sorted(suites.rglob("*.py")) for figure in figures_in(ast.parse(path.read_text()))
    ]
    assert found, f"{suites}: no check measures anything"
    limits = load_limits("local")
    for path, line, metric, unit in found:
        try:
            limits.require(metric, unit)
        except CatalogueError as error:
            pytest.fail(f"{path}:{line}: {error}")


def test_a_file_that_extends_another_says_only_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: local\nmetrics:\n"
        "  storage.free: {unit: GiB, gate: {min: 1}, source: mine}\n"
        "  mine.share: {unit: MiB/s, of: storage.raw.seq_read, gate: {min_fraction: 0.9}, source: mine}\n"
    )
    found = load_limits(str(file))
    assert found.judge("storage.free", 2, "GiB").ok
    assert found.where("storage.free") == f"{file}:3"
    assert found.where("storage.seq_write").startswith("configs/limits/local.yaml:")
    assert not found.judge("mine.share", 80, "MiB/s", ceiling=100).ok
    assert found.keys() == {*load_limits("local"), "mine.share"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("extends: ./mine.yaml", "'./mine.yaml' is not the name of other limits that ship"),
        ("extends: mine", "'mine' is not the name of other limits that ship"),
        ("extends: locla", "no limits are named 'locla'"),
    ],
)
def test_a_file_that_extends_nothing_that_ships(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{line}\nmetrics: {{}}\n")
    with pytest.raises(ConfigError, match=says):
        load_limits(str(file))


def test_limits_of_emulated_machines_hold_for_those_only(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: local\n"
        "metrics:\n  storage.pass: {unit: s, gate: {min: 2}, source: mine}\n"
        "emulated:\n  storage.pass: {unit: s, gate: {min: 9}, source: slow}\n"
    )
    fast, slow = load_limits(str(file)), load_limits(str(file), emulated=True)
    assert (fast.minimum("storage.pass", "s"), slow.minimum("storage.pass", "s")) == (2, 9)
    assert (fast.where("storage.pass"), slow.where("storage.pass")) == (f"{file}:3", f"{file}:5")
    below = tmp_path / "site.yaml"
    below.write_text("extends: beegfs\n")
    assert load_limits(str(below), emulated=True).minimum("storage.checkpoint_volume", "MiB") == 256
    assert load_limits(str(below)).minimum("storage.checkpoint_volume", "MiB") == 1907


def test_a_mistake_about_emulated_machines_is_found_on_any(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: local\nemulated:\n  storage.pass: {unit: s, gate: {min_fraction: 1}, source: mine}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:3: emulated\.'storage\.pass': has a fraction"):
        load_limits(str(file))
