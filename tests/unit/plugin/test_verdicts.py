"""Every verdict, as the terminal, the report and the exit status tell it."""

from __future__ import annotations

from tests.unit.plugin.conftest import Site

CHECKS = """
@pytest.mark.check("SLU-12")
def test_good(cluster, evidence):
    evidence.result(cluster.controller.run("true"))

@pytest.mark.check("SLU-13")
def test_bad(cluster, evidence):
    evidence.attach("seen", "42")
    assert False, "node01: 42 jobs, expected 43; see slurmctld's log"

@pytest.mark.check("SLU-14")
def test_harness(cluster, evidence):
    raise ZeroDivisionError("by zero")

@pytest.mark.check("SLU-15")
def test_nothing(cluster, evidence):
    evidence.attach("empty", "  ")

@pytest.mark.check("SLU-16")
@pytest.mark.requires("beegfs")
def test_beegfs(cluster, evidence):
    raise AssertionError("never run")

@pytest.mark.check("SLU-17")
def test_skips(cluster):
    pytest.skip("no time")

@pytest.mark.check("SLU-18")
@pytest.mark.xfail
def test_expected(cluster):
    assert False

def test_plain():
    pass
"""


def test_each_verdict(site: Site) -> None:
    site.test(CHECKS)
    done = site.run("-v")
    print(done.text, done.errors)
    assert done.verdicts == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_harness": "broken",
        "test_nothing": "no_evidence",
        "test_beegfs": "not_applicable",
        "test_skips": "broken",
        "test_expected": "broken",
        "test_plain": "passed",
    }
    assert done.status == 1
