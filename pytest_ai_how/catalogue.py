"""The catalogue of checks: every claim that the product makes about a cluster, whether a test exists for it or not."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import CatalogueError
from pytest_ai_how.marked import nearest, shown

Severity = Literal["blocking", "default", "informational"]
FILE = "configs/checks.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCOPE = re.compile(r"(?P<area>[A-Z][A-Z0-9]{2})(-(?P<first>\d\d)(\.\.(?P<last>\d\d))?)?")


@dataclass(frozen=True, slots=True)
class Check:
    """One row. ``needs`` holds the letters explained on top of the file, ``task`` the home of its test first."""

    id: str
    title: str
    pass_criterion: str
    phase: str
    severity: Severity
    needs: tuple[str, ...] = ()
    task: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    source: str = ""

    @property
    def disruptive(self) -> bool:
        """Whether the check breaks something on purpose."""
        return "X" in self.needs


class Catalogue(Mapping[str, Check]):
    """The rows by identifier, in the order of the file. An unknown one raises :class:`CatalogueError`."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        tasks: Mapping[str, str],
        phases: Sequence[str],
        gates: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._checks, self._tasks, self._gates = dict(checks), dict(tasks), dict(gates)
        self.phases = tuple(phases)

    def __getitem__(self, check_id: str) -> Check:
        if check_id not in self._checks:
            raise _unknown("check", check_id, self._checks)
        return self._checks[check_id]

    def __contains__(self, check_id: object) -> bool:
        return check_id in self._checks

    def __iter__(self) -> Iterator[str]:
        return iter(self._checks)

    def __len__(self) -> int:
        return len(self._checks)

    @property
    def tasks(self) -> dict[str, str]:
        """The titles of the tasks, by task."""
        return dict(self._tasks)

    def task_title(self, task: str) -> str:
        """The title of one task. Raises :class:`CatalogueError` for an unknown one."""
        if task not in self._tasks:
            raise _unknown("task", task, self._tasks)
        return self._tasks[task]

    def gates_of(self, check_id: str) -> tuple[str, ...]:
        """The rows whose failure blocks ``check_id``; empty when it waits for none."""
        return self._gates.get(self[check_id].id, ())


@functools.cache
def load_catalogue() -> Catalogue:
    """The shipped catalogue, read once a process. Raises :class:`CatalogueError` when the file contradicts itself."""
    text = asset(FILE).read_text(encoding="utf-8")
    # Trusted and large: read without line marks, which would cost three times as much.
    return parse_catalogue(yaml.load(text, Loader=_LOADER))  # noqa: S506  (a safe loader, in C where there is one)


def parse_catalogue(data: Mapping[str, Any]) -> Catalogue:
    """Build the catalogue from the file's plain values; every reference in it must lead somewhere."""
    tasks: Mapping[str, str] = data["tasks"]
    phases: Sequence[str] = data["phases"]
    checks = {check_id: _check(check_id, row) for check_id, row in data["checks"].items()}
    for check in checks.values():
        if check.phase not in phases:
            raise _unknown("phase", check.phase, phases, check.id)
        for task in check.task:
            if task not in tasks:
                raise _unknown("task", task, tasks, check.id)
    return Catalogue(checks, tasks, phases, _gates(data["gates"], checks))


def _check(check_id: str, row: Mapping[str, Any]) -> Check:
    return Check(
        check_id,
        row["title"],
        row["pass"],
        row["phase"],
        row["severity"],
        tuple(row["needs"]),
        tuple(row.get("tasks", ())),
        tuple(row.get("requires", ())),
        row["source"],
    )


def _gates(declared: Mapping[str, Sequence[str]], checks: Mapping[str, Check]) -> dict[str, tuple[str, ...]]:
    gates: dict[str, tuple[str, ...]] = {}
    for scope, waits_for in declared.items():
        for gate in waits_for:
            if gate not in checks:
                raise _unknown("check", gate, checks, f"gates.{scope}")
        for check_id in _covered(scope, checks):
            known = gates.get(check_id, ())
            gates[check_id] = known + tuple(gate for gate in waits_for if gate not in (*known, check_id))
    return gates


def _covered(scope: str, checks: Mapping[str, Check]) -> list[str]:
    """The rows that ``INF``, ``SRV-22`` or ``OUM-05..26`` stands for."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        raise CatalogueError(f"{FILE}: gates", f"{shown(scope)} is no area, row or range", expected="INF or OUM-05..26")
    first = int(found["first"] or 0)
    last = int(found["last"] or found["first"] or 99)
    covered = [check_id for check_id in checks if _within(check_id, found["area"], first, last)]
    if not covered:
        raise CatalogueError(f"{FILE}: gates", f"{shown(scope)} stands for no row")
    return covered


def _within(check_id: str, area: str, first: int, last: int) -> bool:
    prefix, number = check_id.split("-")
    return prefix == area and first <= int(number) <= last


def _unknown(kind: str, name: str, known: Mapping[str, object] | Sequence[str], where: str = "") -> CatalogueError:
    hint = nearest(name, known)
    at = f"{FILE}: {where}" if where else FILE
    return CatalogueError(at, f"no {kind} is named {shown(name)}" + (f" ({hint})" if hint else ""))
