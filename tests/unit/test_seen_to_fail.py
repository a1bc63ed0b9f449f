"""Every check of the suites has been seen to fail, and phase 6 has the rows that it is to have.

Marks are read off the source: nothing is imported, so no suite can hide a check from this by failing to load.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeGuard

import pytest

from pytest_ai_how.catalogue import load_catalogue

ROOT = Path(__file__).parents[2]
#: Which rows phase 6 covers, by task: "12-21" is a range. From the assignment of the phase, not from the suites.
PHASE_6: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "TASK-040": {"STO": "30-33", "CON": "8 13 25"},
        "TASK-041": {"STO": "18-25 35 36"},
        "TASK-042": {"SLU": "8 12-21 25-29 31-40 44-48"},
        "TASK-043": {"CON": "1 2 4-15 19-25"},
        "TASK-044": {"E2E": "16-20 22"},
    }
)
#: Which rows the other phases cover, likewise. Those of MPI's plug-ins are in the care of phase 5.
PHASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "phase0": {"PRV": "1-11", "INF": "39 40 44"},
        "phase1": {"INF": "1-38 43", "PRV": "11 21 22"},
        "phase2": {"SLU": "1-7 9-11 30 41-43 49-51", "CON": "3"},
        "phase3": {"STO": "1-17 26-29 34 37 38"},
        "phase4": {"PRV": "12-20 23-25", "INF": "41 42"},
        "phase5": {"SLU": "22-24", "CON": "16-18", "TR2": "1-3"},
        "mlops/training": {"TR1": "1-13"},
        "mlops/distributed": {"TR2": "4-18"},
    }
)


@dataclass(frozen=True, slots=True)
class Use:
    """One mark in a file: ``check`` or ``seen_to_fail`` with one identifier; ``test`` is '' outside of a test."""

    where: str
    test: str
    id: str


def uses(folder: Path, mark: str) -> list[Use]:
    """Every use of ``pytest.mark.<mark>`` in the test modules below a folder, one for each of its arguments."""
    return [use for path in sorted(folder.rglob("*.py")) for use in read(path, mark)]


def read(path: Path, mark: str) -> Iterator[Use]:
    """The uses in one file.

    A mark counts for the test whose decorators it stands in: alone, in a parameter, or in a list of parameters that
    they name.
    """
    tree = parsed(path)
    tests = {
        id(call): function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_") and path.stem.startswith("test_")
        for decorator in function.decorator_list
        for call in spelled_out(decorator, tree)
        if is_mark(call, mark)
    }
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for call in ast.walk(tree):
        if is_mark(call, mark):
            for argument in call.args:
                text = argument.value if isinstance(argument, ast.Constant) else "no literal"
                yield Use(f"{name}:{call.lineno}", tests.get(id(call), ""), str(text))


def spelled_out(decorator: ast.expr, tree: ast.Module) -> Iterator[ast.AST]:
    """All that a decorator consists of, with what the module assigns to the names in it."""
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for part in ast.walk(decorator):
        yield part
        if isinstance(part, ast.Name) and part.id in assigned:
            yield from ast.walk(assigned[part.id])


@functools.cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file, read once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def is_mark(node: ast.AST, mark: str) -> TypeGuard[ast.Call]:
    """Whether this is ``pytest.mark.<mark>(…)``."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) == f"pytest.mark.{mark}"


def test_every_check_has_been_seen_to_fail() -> None:
    checks, seen = defaultdict(list), {use.id for use in uses(ROOT / "tests", "seen_to_fail") if use.test}
    for use in uses(ROOT / "suites", "check"):
        checks[use.id].append(use.where)
    assert checks, "suites/: no check is marked; nothing was compared"
    missing = {check: where for check, where in checks.items() if check not in seen}
    assert not missing, "no test of ours has seen these checks fail (@pytest.mark.seen_to_fail):\n" + "\n".join(
        f"  {check}  {', '.join(where)}" for check, where in sorted(missing.items())
    )


def test_every_claim_of_having_seen_a_failure_is_of_a_check_that_there_is() -> None:
    checks, catalogue = {use.id for use in uses(ROOT / "suites", "check")}, load_catalogue()
    claims = uses(ROOT / "tests", "seen_to_fail")
    assert claims, "tests/: no test is marked; nothing was compared"
    wrong = [f"{use.where}: {use.id} is not in the catalogue" for use in claims if use.id not in catalogue]
    wrong += [f"{use.where}: no suite has a check {use.id}" for use in claims if use.id not in checks]
    wrong += [f"{use.where}: the mark for {use.id} is not on a test" for use in claims if not use.test]
    assert not wrong, "\n".join(wrong)


def test_every_check_of_the_suites_is_a_row_on_a_test() -> None:
    catalogue = load_catalogue()
    found = uses(ROOT / "suites", "check")
    wrong = [f"{use.where}: {use.id} is not in the catalogue" for use in found if use.id not in catalogue]
    wrong += [f"{use.where}: the mark for {use.id} is not on a test" for use in found if not use.test]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("task", PHASE_6)
def test_phase_6_covers_its_tasks(task: str) -> None:
    present = {use.id for use in uses(ROOT / "suites/phase6", "check") if use.test}
    missing = [check for check in rows(PHASE_6[task]) if check not in present]
    assert not missing, f"suites/phase6: no check for {', '.join(missing)} of {task}"


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_covers_its_rows_and_no_others(phase: str) -> None:
    present = {use.id for use in uses(ROOT / "suites" / phase, "check") if use.test}
    assert sorted(present) == sorted(rows(PHASES[phase]))


def rows(areas: Mapping[str, str]) -> list[str]:
    """The identifiers that an entry of :data:`PHASE_6` stands for."""
    found = []
    for area, words in areas.items():
        for word in words.split():
            first, _, last = word.partition("-")
            found += [f"{area}-{number:02}" for number in range(int(first), int(last or first) + 1)]
    return found


def test_phase_6_is_some_seventy_rows() -> None:
    wanted = {check for areas in PHASE_6.values() for check in rows(areas)}
    assert len(wanted) == 72
    assert {"STO-18", "STO-25", "SLU-08", "SLU-48", "CON-25", "E2E-22"} <= wanted
    assert not {"SLU-22", "SLU-30", "CON-03", "CON-16", "E2E-21"} & wanted


def test_marks_are_found_where_they_count(tmp_path: Path) -> None:
    module = tmp_path / "test_sample.py"
    module.write_text(
        "import pytest\n"
        "@pytest.mark.seen_to_fail('SLU-01', 'SLU-02')\n"
        "def test_one(): ...\n"
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.seen_to_fail('SLU-03'))])\n"
        "def test_two(x): ...\n"
        "NAMED = [pytest.param(1, marks=pytest.mark.seen_to_fail('SLU-05'))]\n"
        "@pytest.mark.parametrize('x', NAMED)\n"
        "def test_four(x): ...\n"
        "UNUSED = [pytest.param(1, marks=pytest.mark.seen_to_fail('SLU-06'))]\n"
        "@pytest.mark.seen_to_fail('SLU-04')\n"
        "def helper(): ...\n"
        "@pytest.mark.seen_to_fail(NAME)\n"
        "def test_three(): ...\n"
    )
    found = {(use.id, use.test) for use in uses(tmp_path, "seen_to_fail")}
    assert found == {
        ("SLU-01", "test_one"),
        ("SLU-02", "test_one"),
        ("SLU-03", "test_two"),
        ("SLU-04", ""),
        ("SLU-05", "test_four"),
        ("SLU-06", ""),
        ("no literal", "test_three"),
    }
    module.rename(tmp_path / "sample.py")
    assert {use.test for use in uses(tmp_path, "seen_to_fail")} == {""}
