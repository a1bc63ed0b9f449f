"""Two runs side by side: which verdicts changed, and how the figures moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_ai_how.report.items import Measurement
from pytest_ai_how.report.model import RunReport, Verdict
from pytest_ai_how.report.words import first_line, number

_OUTSIDE = (Verdict.MISSING, Verdict.NOT_SELECTED)


@dataclass(frozen=True, slots=True)
class Change:
    """A check (or a test without one) whose verdict differs; ``None`` where a run did not have it at all."""

    name: str
    old: Verdict | None
    new: Verdict | None
    reason: str = ""

    def __str__(self) -> str:
        old, new = ((verdict.words if verdict else "not there") for verdict in (self.old, self.new))
        return f"{self.name}: {old} → {new}" + (f": {first_line(self.reason)}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Moved:
    """A figure of both runs. ``ratio`` is new / old, none when the old one is zero."""

    name: str
    unit: str
    old: float
    new: float

    @property
    def ratio(self) -> float | None:
        """How many times the old figure the new one is."""
        return self.new / self.old if self.old else None

    def __str__(self) -> str:
        ratio = f" (x {self.ratio:.2f})" if self.ratio is not None else ""
        return f"{self.name}: {number(self.old)} → {number(self.new)} {self.unit}{ratio}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two runs. ``common`` is the number of checks that both runs put to the test."""

    old: str
    new: str
    common: int
    changes: tuple[Change, ...]
    figures: tuple[Moved, ...]
    verdicts: tuple[str, str]

    @property
    def same(self) -> bool:
        """Whether both runs say the same: at least one common check, no verdict changed, nor the run's own."""
        return self.common > 0 and not self.changes and self.verdicts[0] == self.verdicts[1]

    def lines(self) -> Iterator[str]:
        """The comparison as text."""
        old, new = self.verdicts
        yield f"{self.old}: {old.upper()} → {self.new}: {new.upper()}"
        if not self.common:
            yield "the runs have no check in common: nothing can be compared"
        elif self.same:
            yield f"same verdicts; checks in common: {self.common}"
        else:
            yield f"verdicts that differ: {len(self.changes)}; checks in common: {self.common}"
        yield from (f"  {change}" for change in self.changes)
        if self.figures:
            yield "figures:"
            yield from (f"  {figure}" for figure in self.figures)


def compare(old: RunReport, new: RunReport) -> Comparison:
    """Compare two runs by check; rows that neither run selected do not count."""
    before, after = _verdicts(old), _verdicts(new)
    reasons = {state.row.id: state.reason for state in new.rows} | {r.nodeid: r.reason for r in new.results}
    changes = tuple(
        Change(name, before.get(name), after.get(name), reasons.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
    return Comparison(
        old=old.run.id,
        new=new.run.id,
        common=len(before.keys() & after.keys()),
        changes=changes,
        figures=tuple(_moved(old, new)),
        verdicts=(old.verdict.value, new.verdict.value),
    )


def _verdicts(report: RunReport) -> dict[str, Verdict]:
    found = {state.row.id: state.verdict for state in report.rows if state.verdict not in _OUTSIDE}
    return found | {result.nodeid: result.verdict for result in report.results if not result.ids}


def _moved(old: RunReport, new: RunReport) -> Iterator[Moved]:
    before, after = _figures(old), _figures(new)
    for key in sorted(before.keys() & after.keys()):
        metric, node, unit, _, count = key
        name = (f"{node}: " if node else "") + metric + (f" [{count + 1}]" if count else "")
        yield Moved(name, unit, before[key].value, after[key].value)


def _figures(report: RunReport) -> dict[tuple[str, str, str, str, int], Measurement]:
    """Figures by metric, node, unit and test item; the number tells repeated ones apart, in their order."""
    found: dict[tuple[str, str, str, str, int], Measurement] = {}
    for result in report.results:
        seen: dict[tuple[str, str, str], int] = {}
        for item in result.measurements:
            base = (item.metric, item.node, item.unit)
            found[*base, result.nodeid, seen.get(base, 0)] = item
            seen[base] = seen.get(base, 0) + 1
    return found
