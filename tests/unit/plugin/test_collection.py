"""Mistakes in marks, nodes by role, and sessions that have nothing to do with us."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.plugin.conftest import Site


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (
            "check('SLU-120')",
            "test_it.py:3: test_one: CatalogueError: configs/checks.yaml: no check is named 'SLU-120'",
        ),
        ("check('SLU-97')", "no check is named 'SLU-97' (did you mean 'SLU-"),
        ("requires('gpuu')", "no capability is named 'gpuu' (did you mean 'gpu'?)"),
        ("check()", "@pytest.mark.check takes one or more texts"),
        ("reads('uname -r')", "@pytest.mark.reads takes one or more facts (pytest_ai_how.facts.Fact)"),
        ("on(5)", "@pytest.mark.on takes one text"),
        ("uses()", "@pytest.mark.uses takes the names of services"),
        ("exclusive('../slurm')", "@pytest.mark.exclusive takes nothing, or the names of services"),
    ],
)
def test_wrong_marks(site: Site, mark: str, message: str, workers: str) -> None:
    site.test(f"@pytest.mark.{mark}\n@pytest.mark.parametrize('n', range(3))\ndef test_one(n):\n    pass\n")
    done = site.run(workers)
    assert done.status in (1, 2)
    assert done.text.count(message) >= 1, done.text
    assert site.ups == 0
    assert done.report["verdict"] == "undecided"


def test_one_node_of_a_role_each(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
@pytest.mark.on("compute")
def test_name(node, evidence):
    seen = node.run("hostname")
    evidence.result(seen)
    assert seen.stdout.strip() == node.name
""")
    assert "test_name[node01]" in site.run("--collect-only", "-q").text
    done = site.run()
    assert done.verdicts == {"test_name[node01]": "passed", "test_name[node02]": "passed"}
    assert {result["node"] for result in done.report["results"]} == {"node01", "node02"}


@pytest.mark.parametrize("workers", ["-n0", "-n3"])
def test_facts_are_read_once_whoever_asks_for_them(site: Site, workers: str) -> None:
    site.test("""
from pytest_ai_how.facts import Fact
NAME = Fact("the name", ("hostname",), str)
KERNEL = Fact("the kernel", ("uname", "-s"), str)

@pytest.mark.check("INF-07")
@pytest.mark.reads(NAME)
@pytest.mark.parametrize("number", range(6))
def test_name(facts, number):
    assert set(facts(NAME)) == {"controller", "node01", "node02"}
    time.sleep(0.1)  # so that all workers come to have some

@pytest.mark.check("INF-11")
@pytest.mark.reads(KERNEL)
def test_kernel(facts):
    assert set(facts(KERNEL).values()) == {"Linux"}
""")
    done = site.run(workers, "--cluster-keep=always")
    names = [f"test_name[{number}]" for number in range(6)]
    assert done.verdicts == dict.fromkeys([*names, "test_kernel"], "passed"), done.text
    assert len({result["worker"] for result in done.report["results"]}) == (3 if workers == "-n3" else 1)
    said = site.log.read_text().splitlines()
    assert sorted(line for line in said if line.startswith("asked ")) == [
        "asked controller",
        "asked node01",
        "asked node02",
    ]
    assert "facts.json" not in site.left, "what machines said may hold secrets"


def test_who_breaks_something_lets_all_workers_read_anew(site: Site) -> None:
    (site.folder / "condition").write_text("whole")
    site.test("""
from pathlib import Path
from pytest_ai_how.facts import Fact
state = Path(__file__).with_name("condition")
NOW = Fact("the state", ("cat", str(state)), str)

@pytest.mark.reads(NOW)
@pytest.mark.parametrize("number", range(4))
def test_before(facts, number):
    seen = set(facts(NOW).values())
    time.sleep(0.1)
    assert seen == {state.read_text()}

@pytest.mark.disruptive
@pytest.mark.reads(NOW)
@pytest.mark.parametrize("number", range(6))
def test_breaks(facts, number):
    assert set(facts(NOW).values()) == {state.read_text()}
    state.write_text(f"broken {number}")
""")
    done = site.run("-n3")
    assert set(done.verdicts.values()) == {"passed"}, done.text
    assert len(done.verdicts) == 10


def test_no_node_of_a_role_never_passes(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
@pytest.mark.on("storage")
def test_name(node, evidence):
    evidence.attach("seen", "1")
""")
    done = site.run()
    assert done.verdicts == {"test_name[no-storage]": "broken"}
    assert done.reason("test_name[no-storage]").startswith("cluster 'plug': no node has the role 'storage'")


def test_a_check_without_a_cluster_is_an_error(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_static():
    pass

def test_uses(cluster):
    pass

def test_plain(evidence):
    evidence.attach("seen", "1")
""")
    assert site.run("--collect-only", cluster="").status == 0
    done = site.run(cluster="")
    assert done.status == 1
    assert "1 passed, 2 errors" in done.text
    assert done.text.count("no cluster: give --cluster=NAME") >= 2
    assert not site.state.exists()
    assert not done.reports.exists()


def test_a_check_mark_of_somebody_else(site: Site) -> None:
    site.test("@pytest.mark.check('spelling')\ndef test_one():\n    pass\n")
    assert site.run(cluster="").status == 0


def test_plain_pytest_is_unaffected(site: Site) -> None:
    site.test("""
def test_passes(): pass
def test_fails(): assert False
def test_skips(): pytest.skip("no reason")
@pytest.mark.xfail
def test_xfails(): assert False
""")
    done = site.run("-n2", cluster="")
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed" in done.text
    assert "ai-how:" not in done.text


def test_the_plugin_can_be_left_out(site: Site) -> None:
    (site.folder / "conftest.py").unlink()
    site.test("def test_one(): pass\n")
    assert site.run("-p", "no:ai_how", cluster="").status == 0


def test_without_xdist(site: Site) -> None:
    site.test("@pytest.mark.check('SLU-12')\ndef test_one(cluster, evidence):\n    evidence.attach('seen', '1')\n")
    done = site.run("-p", "no:xdist")
    assert done.status == 0, done.text + done.errors


HEAVY = ("pydantic", "yaml", "fabric", "paramiko", "testinfra", "jinja2", "rich", "pytest_ai_how.catalogue")


def test_unused_it_imports_nothing_heavy() -> None:
    code = "import sys, pytest; pytest.main(['--markers']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "pytest_ai_how.plugin" in loaded
    ours = {name for name in loaded if name in HEAVY}
    without = subprocess.run(
        [sys.executable, "-c", code.replace("'--markers'", "'--markers', '-p', 'no:ai_how'")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert ours <= set(without)
