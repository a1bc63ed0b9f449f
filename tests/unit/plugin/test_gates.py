"""A check behind a gate that did not pass is blocked, and says so; gates run first, on any worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.phases import gate_depths, rank_of
from pytest_ai_how.report.model import Verdict
from pytest_ai_how.skin.gates import Gates
from tests.unit.plugin.conftest import Site

# CON waits for SLU-12, SLU-13 and STO-09; SLU for INF-01 to INF-09.
BEHIND = """
@pytest.mark.check("CON-01")
@pytest.mark.parametrize("number", range(4))
def test_behind(evidence, number):
    evidence.attach("seen", "1")

@pytest.mark.check("SLU-12")
def test_gate(evidence):
    evidence.attach("seen", "1")
    {body}
"""


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_behind_a_failed_gate(site: Site, workers: str) -> None:
    site.test(BEHIND.format(body="time.sleep(0.5); assert False, 'node01: srun hostname answered nothing'"))
    done = site.run("-v", workers)
    behind = {name: verdict for name, verdict in done.verdicts.items() if name.startswith("test_behind")}
    assert set(behind.values()) == {"blocked"}, done.text
    assert len(behind) == 4
    assert done.reason("test_behind[0]") == "blocked: gate SLU-12 failed: node01: srun hostname answered nothing"
    assert "BLOCKED" in done.text
    assert done.status == 1


def test_behind_a_passed_gate(site: Site) -> None:
    site.test(BEHIND.format(body=""))
    done = site.run()
    assert set(done.verdicts.values()) == {"passed"}
    assert done.status == 0


def test_a_gate_that_is_not_selected_bars_nothing(site: Site) -> None:
    site.test(BEHIND.format(body="assert False"))
    done = site.run("-k", "behind")
    assert set(done.verdicts.values()) == {"passed"}


def test_a_blocked_gate_blocks(site: Site) -> None:
    site.test("""
@pytest.mark.check("CON-01")
def test_third(evidence):
    evidence.attach("seen", "1")

@pytest.mark.check("SLU-12")
def test_second(evidence):
    evidence.attach("seen", "1")

@pytest.mark.check("INF-01")
def test_first(evidence):
    raise OSError("no machine")
""")
    done = site.run()
    assert done.verdicts == {"test_first": "broken", "test_second": "blocked", "test_third": "blocked"}
    assert done.reason("test_third") == (
        "blocked: gate SLU-12 blocked: blocked: gate INF-01 broken: OSError: no machine"
    )


def test_order(site: Site) -> None:
    text = "@pytest.mark.check('{}')\ndef test_{}(evidence): pass\n"
    site.test(
        "@pytest.mark.disruptive\n"
        + text.format("SLU-20", "breaks")
        + "@pytest.mark.exclusive\n"
        + text.format("SLU-47", "alone")
        + text.format("CON-01", "behind"),
        "suites/phase6/test_b.py",
    )
    site.test(text.format("SLU-12", "gate"), "suites/phase6/test_c.py")
    site.test(text.format("PRV-20", "late"), "suites/mlops/training/test_d.py")
    site.test(text.format("STO-30", "early"), "suites/phase3/test_e.py")
    done = site.run("--collect-only", "-q")
    names = [line.rpartition("::")[2] for line in done.text.splitlines() if "::" in line]
    assert names == ["test_gate", "test_early", "test_behind", "test_alone", "test_breaks", "test_late"], done.text


def test_ranks() -> None:
    paths = ["tests/test_x.py", "suites/phase0/test_x.py", "suites/phase6/test_x.py", "suites/mlops/oumi/test_x.py"]
    ranks = [rank_of(path) for path in paths]
    assert ranks[0] == 0
    assert ranks == sorted(set(ranks))


def test_depths_follow_what_gates_wait_for() -> None:
    waits = {"C": ("B",), "B": ("A",), "A": (), "D": ("not selected",)}
    assert gate_depths(waits, lambda check: waits[check]) == {"A": 0, "B": 1}


def test_depths_end_where_gates_wait_for_each_other() -> None:
    waits = {"A": ("B",), "B": ("A",)}
    assert set(gate_depths(waits, lambda check: waits[check])) == {"A", "B"}


@pytest.mark.parametrize(("verdict", "shut"), [(Verdict.FAILED, True), (Verdict.NO_EVIDENCE, False)])
def test_which_verdicts_shut_a_gate(tmp_path: Path, verdict: Verdict, shut: bool) -> None:
    gates = Gates(tmp_path, ["SLU-12"], {})
    gates.note(["SLU-12", "SLU-99"], verdict, "node01: down\nand more")
    expected = "gate SLU-12 failed: node01: down" if shut else ""
    assert Gates(tmp_path, ["SLU-12"], {}).why_shut(["STO-09", "SLU-12"]) == expected
    assert gates.why_shut(["STO-09"]) == ""
