"""What a measured value may be: limits as data, with unit and source, judged here and nowhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import CatalogueError, ConfigError, Problem
from pytest_ai_how.explain import explain
from pytest_ai_how.marked import Mistake, nearest, read_text, read_yaml, shown

# A closed set, compared as written: nothing is converted, so nothing is converted wrongly.
Rate = Literal["MiB/s", "GB/s", "TFLOP/s", "ops/s", "jobs/s", "samples/s"]
Unit = Literal[Rate, "s", "ms", "%", "fraction", "count", "bytes", "MiB", "GiB"]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*([.][a-z0-9_]+)+$", max_length=100)]
Text = Annotated[str, Field(pattern=r"\S")]
Outcome = Literal["pass", "fail", "invalid", "recorded"]
_FORMS = {
    r"^[a-z][a-z0-9_]*([.][a-z0-9_]+)+$": "a dotted name: lower-case letters, digits and _ (storage.seq_write)",
    r"\S": "a text that is not blank",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bounds(_Strict):
    """The edges of what is good, both inclusive; fractions are of the ceiling measured in the same run."""

    min: float | None = None
    max: float | None = None
    min_fraction: float | None = Field(default=None, ge=0)
    max_fraction: float | None = Field(default=None, ge=0)


class Limit(_Strict):
    """One metric. Without ``gate`` its values are recorded and never fail."""

    unit: Unit
    source: Text = Field(description="where the number comes from, in words")
    of: MetricName | None = Field(default=None, description="the metric that is this one's ceiling")
    gate: Bounds | None = Field(default=None, description="outside of this a check fails")
    stretch: Bounds | None = Field(default=None, description="what would be better still; reported, fails nothing")
    physical_max_fraction: float | None = Field(
        default=None, gt=0, description="a value above this fraction of the ceiling was not measured but cached"
    )
    physical_max: float | None = Field(
        default=None, gt=0, description="as physical_max_fraction, of what is a share of something itself"
    )


class _File(_Strict):
    extends: Text | None = Field(default=None, description="limits that ship, whose metrics hold where this has none")
    metrics: dict[MetricName, Limit] = {}
    emulated: dict[MetricName, Limit] = Field(
        default={}, description="what holds in place of some metrics where the machines' CPUs are emulated"
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one value.

    ``limit`` is the gate in words and in the metric's unit, ``reason`` a sentence (empty for pass and recorded),
    ``where`` the limit's file:line, ``source`` its origin, ``fraction`` value / ceiling if a ceiling was given.
    """

    outcome: Outcome
    metric: str
    value: float
    unit: str
    limit: str
    where: str
    source: str
    fraction: float | None = None
    reason: str = ""
    stretch: Literal["", "met", "missed"] = ""

    @property
    def ok(self) -> bool:
        """Whether the value may stand: inside its gate, or without one."""
        return self.outcome in ("pass", "recorded")

    @property
    def invalid(self) -> bool:
        """Whether the value cannot be true."""
        return self.outcome == "invalid"


class Limits(Mapping[str, Limit]):
    """The limits of one profile, by metric."""

    def __init__(self, name: str, file: str, limits: Mapping[str, Limit], places: Mapping[str, str]) -> None:
        """``places`` are file:line by metric."""
        self.name, self.file = name, file
        self._limits, self._places = dict(limits), dict(places)

    def __getitem__(self, metric: str) -> Limit:
        """The limit of ``metric``. Raises :class:`CatalogueError` naming the nearest metric."""
        if metric not in self._limits:
            hint = nearest(metric, self._limits)
            seen = f"no metric is named {shown(metric)}" + (f" ({hint})" if hint else "")
            raise CatalogueError(self.file, seen, cure="declare it there with unit and source before measuring it")
        return self._limits[metric]

    def __contains__(self, metric: object) -> bool:
        return metric in self._limits

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def where(self, metric: str) -> str:
        """The file:line where ``metric`` is declared."""
        return self._places[metric]

    def require(self, metric: str, unit: str) -> Limit:
        """The limit of ``metric``; raises :class:`CatalogueError` unless it is declared in exactly ``unit``."""
        limit = self[metric]
        if unit != limit.unit:
            seen = f"{metric} was measured in {shown(unit)}"
            raise CatalogueError(self.where(metric), seen, expected=limit.unit, cure="measure in the declared unit")
        return limit

    def minimum(self, metric: str, unit: str) -> float:
        """The least that is good of ``metric``, for checks that do as much as is asked for.

        Raises :class:`CatalogueError` where the limit asks for nothing.
        """
        return self._edge(metric, unit, "min")

    def maximum(self, metric: str, unit: str) -> float:
        """The most that is good of ``metric``, for checks that wait for as long as is allowed. Raises as above."""
        return self._edge(metric, unit, "max")

    def _edge(self, metric: str, unit: str, side: Literal["min", "max"]) -> float:
        gate = self.require(metric, unit).gate
        edge: float | None = getattr(gate, side, None)
        if edge is None:
            seen = f"{metric} has no {side}, so nobody knows how much to do"
            raise CatalogueError(self.where(metric), seen, expected=f"gate: {{{side}: …}}")
        return edge

    def judge(self, metric: str, value: float, unit: str, *, ceiling: float | None = None) -> Judgement:
        """Judge one value; ``ceiling`` is the limit's ``of`` metric, measured in the same run, in the same unit.

        A value that is not a number, is negative, or lies above what the ceiling allows is ``invalid``: the
        measurement is wrong, however good it looks. Raises :class:`CatalogueError` for an unknown metric, another
        unit, or a limit that is a fraction of a ceiling that was not given.
        """
        limit = self.require(metric, unit)
        if ceiling is None and limit.of and _relative(limit):
            seen = f"{metric} was measured without its ceiling"
            cure = f"measure {limit.of} in the same run and pass it as ceiling"
            raise CatalogueError(self.where(metric), seen, expected=limit.of, cure=cure)
        judging = _Judging(metric, limit, value, ceiling)
        outcome, reason = judging.outcome()
        return Judgement(
            outcome,
            metric,
            value,
            unit,
            limit="; ".join(judging.words(limit.gate)),
            where=self.where(metric),
            source=limit.source,
            fraction=value / ceiling if ceiling and math.isfinite(value) else None,
            reason=f"{reason} [{self.where(metric)}: {limit.source}]" if reason else "",
            stretch="" if limit.stretch is None or outcome == "invalid" else judging.stretch(limit.stretch),
        )


def _relative(limit: Limit) -> bool:
    parts = [part for part in (limit.gate, limit.stretch) if part]
    fractions = [edge for part in parts for edge in (part.min_fraction, part.max_fraction)]
    return any(edge is not None for edge in (*fractions, limit.physical_max_fraction))


@dataclass(frozen=True, slots=True)
class _Judging:
    metric: str
    limit: Limit
    value: float
    ceiling: float | None

    def outcome(self) -> tuple[Outcome, str]:
        limit, ceiling = self.limit, self.ceiling
        said = f"{self.metric} is {self.value:.6g} {limit.unit}"
        if not math.isfinite(self.value) or self.value < 0:
            return "invalid", f"{said}, which is not a measurement"
        if ceiling is not None and not (math.isfinite(ceiling) and ceiling > 0):
            return "invalid", f"{said}, but its ceiling is {ceiling:.6g} {limit.unit}, which is not a measurement"
        if (most := self.most()) is not None and self.value > most:
            return "invalid", f"{said}, above the physical limit of {most:.6g} {limit.unit}: it measured a cache"
        if limit.gate is None:
            return "recorded", ""
        broken = self.broken(limit.gate)
        return ("fail", f"{said}, expected {'; '.join(broken)}") if broken else ("pass", "")

    def most(self) -> float | None:
        """The largest value that can be true; None when nothing says so."""
        limit, ceiling = self.limit, self.ceiling
        of_ceiling = None
        if limit.physical_max_fraction is not None and ceiling is not None:
            of_ceiling = limit.physical_max_fraction * ceiling
        return min((edge for edge in (limit.physical_max, of_ceiling) if edge is not None), default=None)

    def stretch(self, bounds: Bounds) -> Literal["met", "missed"]:
        return "missed" if self.broken(bounds) else "met"

    def broken(self, bounds: Bounds) -> list[str]:
        return [words for low, edge, words in self.edges(bounds) if (self.value < edge if low else self.value > edge)]

    def words(self, bounds: Bounds | None) -> list[str]:
        return [words for _, _, words in self.edges(bounds)] if bounds else []

    def edges(self, bounds: Bounds) -> Iterator[tuple[bool, float, str]]:
        unit, of = self.limit.unit, self.limit.of
        for low, edge in ((True, bounds.min), (False, bounds.max)):
            if edge is not None:
                yield low, edge, f"{'at least' if low else 'at most'} {edge:g} {unit}"
        for low, part in ((True, bounds.min_fraction), (False, bounds.max_fraction)):
            if part is not None and self.ceiling is not None:
                edge = part * self.ceiling
                side = "at least" if low else "at most"
                yield low, edge, f"{side} {edge:.6g} {unit} ({100 * part:.3g}% of {of}, {self.ceiling:.6g} {unit})"


def load_limits(name: str, *, emulated: bool = False) -> Limits:
    """Read ``configs/limits/<name>.yaml``, or the file that ``name`` is if it has a slash.

    With ``extends: local`` in it, the metrics that it does not name are those of ``local``. What is said of machines
    that are ``emulated`` goes before what the same file says of all.

    Raises :class:`ConfigError` with every mistake of the file, or naming the limits that exist.
    """
    path, file = _find(name)
    marked = read_yaml(read_text(path, file), file)
    mistakes = list(marked.mistakes)
    sections: dict[str, dict[str, Limit]] = {}
    extends: str | None = None
    try:
        read = _File.model_validate_json(json.dumps(marked.value), strict=True)
        sections, extends = {"metrics": read.metrics, "emulated": read.emulated}, read.extends
    except ValidationError as error:
        mistakes += explain(error, _File, _FORMS)
    if extends in (path.stem, name) or (extends and "/" in extends):
        mistakes.append(Mistake(("extends",), f"{shown(extends)} is not the name of other limits that ship"))
        extends = None
    below = load_limits(extends, emulated=emulated) if extends else None
    metrics = dict(below or {})
    places = {metric: below.where(metric) for metric in below} if below else {}
    for section, own in sections.items():
        mistakes += _between({**metrics, **own}, own, section)
        if section == "metrics" or emulated:
            metrics |= own
            places |= {metric: f"{file}:{marked.mark((section, metric)).line}" for metric in own}
    if mistakes:
        raise ConfigError(marked.problems(mistakes))
    return Limits(path.stem, file, metrics, places)


def limits_names() -> tuple[str, ...]:
    """The names of the limits that ship, sorted."""
    return tuple(sorted(path.stem for path in asset("configs/limits").glob("*.yaml")))


def units() -> tuple[str, ...]:
    """The units that a metric may have."""
    return get_args(Unit)


def _find(name: str) -> tuple[Path, str]:
    if "/" in name:
        return Path(name), name
    known = limits_names()
    if name not in known:
        what = f"no limits are named {shown(name)}; known: {', '.join(known)}"
        raise ConfigError([Problem("configs/limits", 0, "", what, nearest(name, known))])
    file = f"configs/limits/{name}.yaml"
    return asset(file), file


def _between(metrics: Mapping[str, Limit], own: Mapping[str, Limit], section: str) -> Iterator[Mistake]:
    """Rules between the values of ``own``, which may name any of ``metrics``."""
    for metric, limit in own.items():
        path = (section, metric)
        if limit.of is None and _relative(limit):
            yield Mistake(path, "has a fraction, but says not of what: 'of' is missing")
        if limit.of is not None and limit.of not in metrics:
            yield Mistake((*path, "of"), f"no metric is named {shown(limit.of)}", nearest(limit.of, metrics))
        elif limit.of is not None and metrics[limit.of].unit != limit.unit:
            yield Mistake((*path, "of"), f"is in {metrics[limit.of].unit}, this metric in {limit.unit}")
        for column, bounds in (("gate", limit.gate), ("stretch", limit.stretch)):
            if bounds is None:
                continue
            if bounds == Bounds():
                yield Mistake((*path, column), "bounds nothing")
            for low, high in ((bounds.min, bounds.max), (bounds.min_fraction, bounds.max_fraction)):
                if low is not None and high is not None and low > high:
                    yield Mistake((*path, column), f"allows nothing: its minimum {low:g} is above its maximum {high:g}")
