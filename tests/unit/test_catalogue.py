"""The catalogue of checks, its tasks and its gates."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
import yaml

from pytest_ai_how.assets import asset
from pytest_ai_how.catalogue import Check, load_catalogue, parse_catalogue
from pytest_ai_how.config.capabilities import CAPABILITIES
from pytest_ai_how.errors import CatalogueError

# How many rows each area of the specification has.
AREAS = {"PRV": 25, "INF": 44, "STO": 38, "SLU": 51, "CON": 25, "TR1": 13, "TR2": 18, "OUM": 26, "SRV": 32, "E2E": 22}


def test_the_whole_catalogue_is_there() -> None:
    catalogue = load_catalogue()
    assert Counter(check_id[:3] for check_id in catalogue) == AREAS
    assert Counter(check.severity for check in catalogue.values()) == {
        "blocking": 180,
        "default": 90,
        "informational": 24,
    }
    # A key written twice would have swallowed a row without a word.
    written = re.findall(r"^  ([A-Z][A-Z0-9]{2}-\d\d): \{severity", asset("configs/checks.yaml").read_text(), re.M)
    assert written == list(catalogue)


def test_one_row() -> None:
    assert load_catalogue()["SLU-17"] == Check(
        id="SLU-17",
        title="Cancel pending and running",
        pass_criterion="CANCELLED ≤[15] s, no processes",
        phase="phase6",
        severity="blocking",
        needs=("V",),
        task=("TASK-042",),
        requires=("slurm",),
        source="distributed-jobs",
    )


def test_rows_say_something() -> None:
    for check in load_catalogue().values():
        assert check.title.strip(), check.id
        assert check.pass_criterion.strip(), check.id
        assert check.source.strip(), check.id
        assert set(check.needs) <= {"S", "H", "V", "G1", "G2", "K", "N", "X", "S/H", "S/V"}, check.id


def test_disruptive() -> None:
    assert load_catalogue()["SLU-44"].disruptive
    assert not load_catalogue()["SLU-12"].disruptive


def test_tasks_have_titles_and_the_home_comes_first() -> None:
    catalogue = load_catalogue()
    assert catalogue.task_title("TASK-041") == "BeeGFS performance testing"
    assert catalogue["STO-18"].task == ("TASK-041", "TASK-028.1")
    assert catalogue["CON-08"].task == ("TASK-040", "TASK-043")
    assert {task for check in catalogue.values() for task in check.task} == set(catalogue.tasks)


@pytest.mark.parametrize(
    ("phase", "rows"),
    [
        ("phase0", ["PRV-01", "PRV-11", "INF-39", "INF-44"]),
        ("phase1", ["INF-01", "PRV-21"]),
        ("phase2", ["SLU-01", "SLU-30", "SLU-49", "CON-03"]),
        ("phase3", ["STO-09", "STO-38"]),
        ("phase4", ["PRV-20", "INF-41"]),
        ("phase5", ["SLU-22", "SLU-23", "CON-16", "TR2-01"]),
        ("phase6", ["SLU-08", "SLU-31", "SLU-40", "CON-01", "CON-07", "STO-18", "E2E-22"]),
        ("mlops/pipeline", ["E2E-01", "E2E-15"]),
    ],
)
def test_phase(phase: str, rows: list[str]) -> None:
    assert {load_catalogue()[row].phase for row in rows} == {phase}


@pytest.mark.parametrize(
    ("check_id", "gates"),
    [
        ("PRV-01", ()),
        ("INF-05", ("PRV-01", "PRV-06", "PRV-11", "PRV-13")),
        ("STO-18", tuple(f"INF-0{number}" for number in range(1, 10))),
        ("CON-25", ("SLU-12", "SLU-13", "STO-09")),
        ("TR2-01", ("TR1-04", "CON-18")),
        ("TR2-02", ("TR1-04", "CON-18", "TR2-01")),
        ("OUM-04", ()),
        ("OUM-05", ("TR1-04",)),
        ("SRV-14", ()),
        ("SRV-15", ("TR1-06",)),
        ("SRV-22", ("SRV-10", "E2E-15")),
        ("E2E-15", ("OUM-08", "SRV-13", "SRV-14")),
        ("E2E-16", ()),
    ],
)
def test_gates(check_id: str, gates: tuple[str, ...]) -> None:
    assert load_catalogue().gates_of(check_id) == gates


def test_gates_have_no_circle() -> None:
    def follow(check_id: str, behind: tuple[str, ...]) -> None:
        assert check_id not in behind, " <- ".join((*behind, check_id))
        for gate in load_catalogue().gates_of(check_id):
            follow(gate, (*behind, check_id))

    for check_id in load_catalogue():
        follow(check_id, ())


def test_unknown_check() -> None:
    with pytest.raises(CatalogueError, match=r"^configs/checks\.yaml: no check is named 'slu-12' \(.* 'SLU-12'\?\)$"):
        load_catalogue()["slu-12"]
    with pytest.raises(CatalogueError, match=r"no check is named 'nonsense'$"):
        load_catalogue().gates_of("nonsense")
    assert "SLU-99" not in load_catalogue()


def test_read_once_a_process() -> None:
    assert load_catalogue() is load_catalogue()


ROW = {"severity": "blocking", "phase": "one", "needs": ["V"], "source": "new", "title": "t", "pass": "p"}


def catalogue(**changes: Any) -> dict[str, Any]:
    data = {"phases": ["one"], "tasks": {"T-1": "t"}, "gates": {}, "checks": {"ABC-01": ROW, "ABC-02": ROW}}
    copy: dict[str, Any] = yaml.safe_load(yaml.safe_dump({**data, **changes}))
    return copy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checks": {"ABC-01": {**ROW, "phase": "on"}}}, r"checks\.yaml: ABC-01: no phase is named 'on' \(.*'one'\?\)"),
        ({"checks": {"ABC-01": {**ROW, "tasks": ["T-2"]}}}, r"ABC-01: no task is named 'T-2' \(did you mean 'T-1'\?\)"),
        ({"gates": {"ABC": ["ABC-03"]}}, r"gates\.ABC: no check is named 'ABC-03' \(did you mean 'ABC-0"),
        ({"gates": {"XYZ": ["ABC-01"]}}, r"gates: 'XYZ' stands for no row"),
        ({"gates": {"abc..": ["ABC-01"]}}, r"gates: 'abc\.\.' is no area, row or range"),
    ],
)
def test_a_reference_that_leads_nowhere(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        parse_catalogue(catalogue(**changes))


def test_a_gate_does_not_wait_for_itself() -> None:
    small = parse_catalogue(catalogue(gates={"ABC": ["ABC-01"], "ABC-02..02": ["ABC-01"]}))
    assert (small.gates_of("ABC-01"), small.gates_of("ABC-02")) == ((), ("ABC-01",))


def test_rows_require_capabilities_that_there_are() -> None:
    """A misspelt one would never be absent."""
    wanted = {(row.id, capability) for row in load_catalogue().values() for capability in row.requires}
    assert wanted
    assert {(row, capability) for row, capability in wanted if capability not in CAPABILITIES} == set()


def test_the_speed_of_gpus_is_judged_on_gpus_and_at_the_size_of_the_plan() -> None:
    """Elsewhere its limits have no gate: a row would be green whatever was measured."""
    rows = {row.id: row.requires for row in load_catalogue().values() if "scale.full" in row.requires}
    assert rows.keys() == {"TR1-09", "TR2-06", "TR2-07", "TR2-12", "OUM-11", "OUM-12"}
    assert all("gpu.real" in requires for requires in rows.values())
    assert all("gpu.pair" in requires for check, requires in rows.items() if check != "TR1-09")
