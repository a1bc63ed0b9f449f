"""Several workers: one cluster, one order, tests that depend on each other together."""

from __future__ import annotations

import pytest

from tests.unit.plugin.conftest import Site

CHAIN = """
@pytest.mark.dependency
def test_a(): {first}

@pytest.mark.dependency(depends=["test_a"])
def test_b(): pass

@pytest.mark.dependency(name="sea", depends=["test_b"])
def test_c(): pass

@pytest.mark.dependency(depends=["test_it.py::test_b", "sea"], scope="session")
def test_d(): pass

@pytest.mark.parametrize("number", range(6))
def test_other(number): time.sleep(0.05)

class TestClass:
    @pytest.mark.dependency
    def test_e(self): pass

    @pytest.mark.dependency(depends=["test_e"], scope="class")
    def test_f(self): pass

    @pytest.mark.dependency(depends=["TestClass::test_e"])
    def test_g(self): pass
"""


@pytest.mark.parametrize("workers", ["-n0", "-n3"])
def test_dependencies_hold(site: Site, workers: str) -> None:
    site.test(CHAIN.format(first="pass"))
    done = site.run(workers, "-v")
    assert set(done.verdicts.values()) == {"passed"}, done.text
    assert len(done.verdicts) == 13
    assert done.status == 0
    where = {r["nodeid"].rpartition("::")[2]: r["worker"] for r in done.report["results"]}
    assert len({where[f"test_{letter}"] for letter in "abcd"}) == 1
    assert len({where[f"test_{letter}"] for letter in "efg"}) == 1


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_dependents_of_a_failure_are_blocked(site: Site, workers: str) -> None:
    site.test(CHAIN.format(first="assert False, 'down'"))
    done = site.run(workers)
    found = {name: verdict for name, verdict in done.verdicts.items() if name in ("test_b", "test_c", "test_d")}
    assert set(found.values()) == {"blocked"}
    assert done.reason("test_b") == "blocked: test_b depends on test_a"
    assert done.status == 1


def test_groups_of_users_join_the_component(site: Site) -> None:
    site.test("""
@pytest.mark.dependency
@pytest.mark.xdist_group("disk")
def test_a(): pass

@pytest.mark.xdist_group("disk")
def test_x(): pass

@pytest.mark.dependency(depends=["test_a"])
@pytest.mark.xdist_group("net")
def test_b(): pass

@pytest.mark.parametrize("n", range(4))
def test_other(n): pass
""")
    done = site.run("-n2", "-v")
    assert set(done.verdicts.values()) == {"passed"}, done.text
    where = {r["nodeid"].rpartition("::")[2]: r["worker"] for r in done.report["results"]}
    assert where["test_a"] == where["test_b"] == where["test_x"]


def test_one_cluster_for_all(site: Site) -> None:
    site.test("""
@pytest.mark.parametrize("n", range(8))
def test_one(n, cluster, evidence, run_id):
    evidence.attach("run", run_id)
    assert cluster.all.names == ("controller", "node01", "node02")
    time.sleep(0.1)
""")
    done = site.run("-n4")
    assert set(done.verdicts.values()) == {"passed"}, done.text
    assert site.ups == 1
    assert len({result["attachments"][0]["content"] for result in done.report["results"]}) == 1
    assert len({result["worker"] for result in done.report["results"]}) > 1
    assert site.left == []


def test_exclusive_ones_run_alone(site: Site) -> None:
    site.test("""
def note(word):
    with open("order", "a") as file:
        file.write(word + "\\n")

@pytest.mark.parametrize("n", range(6))
def test_shared(n, cluster):
    note("begin shared"); time.sleep(0.1); note("end shared")

@pytest.mark.exclusive
@pytest.mark.parametrize("n", range(2))
def test_alone(n, cluster):
    note("begin alone"); time.sleep(0.2); note("end alone")
""")
    done = site.run("-n3")
    assert done.status == 0, done.text
    lines = (site.folder / "order").read_text().splitlines()
    for begin in [index for index, line in enumerate(lines) if line == "begin alone"]:
        assert lines[begin + 1] == "end alone"
    assert lines.count("begin alone") == 2


def test_alone_with_a_service(site: Site) -> None:
    """Who wants Slurm alone shares the cluster with those that don't use Slurm, and with no other."""
    site.test("""
def note(word):
    with open("order", "a") as file:
        file.write(word + "\\n")

@pytest.mark.parametrize("n", range(6))
def test_elsewhere(n, cluster):
    note("begin elsewhere"); time.sleep(0.2); note("end elsewhere")

@pytest.mark.exclusive("slurm")
@pytest.mark.parametrize("n", range(2))
def test_alone(n, cluster):
    note("begin alone"); time.sleep(0.5); note("end alone")

@pytest.mark.requires("slurm")
@pytest.mark.parametrize("n", range(2))
def test_slurm(n, cluster):
    note("begin slurm"); time.sleep(0.1); note("end slurm")

@pytest.mark.uses("slurm")
@pytest.mark.parametrize("n", range(2))
def test_says_so(n, cluster):
    note("begin slurm"); time.sleep(0.1); note("end slurm")
""")
    done = site.run("-n3")
    assert done.status == 0, done.text
    lines = (site.folder / "order").read_text().splitlines()
    assert [lines.count(f"begin {word}") for word in ("elsewhere", "alone", "slurm")] == [6, 2, 4]
    beside = []
    for begin in [index for index, line in enumerate(lines) if line == "begin alone"]:
        beside += lines[begin + 1 : lines.index("end alone", begin)]
    assert beside
    assert all(line.endswith("elsewhere") for line in beside), lines


def test_who_wants_to_be_alone_lets_long_turns_of_its_phase_end_first(site: Site) -> None:
    """Else it would wait for the first of them, and nobody could begin meanwhile."""
    site.test("""
@pytest.mark.exclusive("slurm")
@pytest.mark.parametrize("n", range(4))
def test_turn(n, cluster):
    time.sleep(0.3)

@pytest.mark.exclusive
@pytest.mark.parametrize("n", range(2))
def test_alone(n, cluster):
    pass
""")
    done = site.run("-n3")
    assert done.status == 0, done.text
    began = sorted(done.report["results"], key=lambda result: result["started"] + result["seconds"])
    names = [result["nodeid"].rpartition("::")[2][:9] for result in began]
    assert names == ["test_turn"] * 4 + ["test_alon"] * 2


def test_who_wants_to_be_alone_does_not_wait_for_those_that_will_not_come(site: Site) -> None:
    site.test("""
@pytest.mark.exclusive("slurm")
@pytest.mark.parametrize("n", range(4))
def test_turn(n, cluster):
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.exclusive
def test_alone(cluster):
    pass
""")
    done = site.run("-n2", "--max-worker-restart=0")
    assert done.status != 0
    assert "test_turn[0]" in done.text


def test_a_group_begins_before_what_can_be_spread(site: Site) -> None:
    site.test("""
@pytest.mark.parametrize("n", range(3))
def test_spread(n, cluster):
    pass

@pytest.mark.xdist_group("long")
@pytest.mark.parametrize("n", range(2))
def test_grouped(n, cluster):
    pass
""")
    began = sorted(site.run("-n1").report["results"], key=lambda result: result["started"])
    assert [result["nodeid"].rpartition("::")[2][:12] for result in began] == ["test_grouped"] * 2 + [
        "test_spread["
    ] * 3


def test_a_killed_worker(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_dies(cluster):
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.check("CON-01")
def test_behind(evidence):
    evidence.attach("seen", "1")

@pytest.mark.check("INF-44")
@pytest.mark.parametrize("n", range(3))
def test_lives(n, cluster, evidence):
    evidence.attach("seen", "1")
""")
    done = site.run("-n2")
    assert done.verdicts.pop("test_dies") == "broken", done.text
    assert "crashed" in done.reason("test_dies")
    assert done.verdicts["test_behind"] == "blocked"
    assert done.verdicts["test_lives[2]"] == "passed"
    assert (done.report["verdict"], done.status) == ("undecided", 1)
    assert site.left == []


def test_one_order_on_all_workers(site: Site) -> None:
    site.test("""
@pytest.mark.parametrize("name", sorted({"a", "b", "c", "d"}))
@pytest.mark.check("SLU-12")
def test_one(name, evidence):
    evidence.attach("seen", name)
""")
    for seed in ("1", "2"):
        assert site.run("-n2", PYTHONHASHSEED=seed).status == 0
