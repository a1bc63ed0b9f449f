"""Programs over several nodes that go wrong name the node or the link, and never who only started them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from suites.phase5 import test_containers as containers
from suites.phase5 import test_mpi as mpi
from suites.phase5._narrow import everyone, two
from suites.phase6._containers import culprit
from tests.unit.suites.phase5_fakes import IMAGE, Edit, Ranks, asked, hung, slurm, spanning
from tests.unit.suites.task042_fakes import new_measure
from tests.unit.suites.task043_fakes import transport

Program = Callable[[Slurm, Registry, Evidence], None]


def hello(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    mpi.test_hello(slurm, evidence, new_measure(), "r1", "")


def hello_in_containers(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    mpi.test_hello(slurm, evidence, new_measure(), "r1", IMAGE)


def over_mpi(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    containers.test_mpi(slurm, registry, evidence, "r1")


def over_gloo(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    containers.test_collectives_over_gloo(slurm, registry, evidence, "r1")


PROGRAMS = [
    pytest.param(hello, marks=pytest.mark.seen_to_fail("SLU-22")),
    pytest.param(hello_in_containers, marks=pytest.mark.seen_to_fail("CON-16")),
    pytest.param(over_mpi, marks=pytest.mark.seen_to_fail("CON-16")),
    pytest.param(over_gloo, marks=pytest.mark.seen_to_fail("CON-17")),
]


def unreached(*names: str) -> Callable[[tuple[str, ...]], Result | None]:
    """Ranks wait for ever where all of these take part in what spans nodes."""
    return lambda group: hung() if set(names) <= set(group) and len(group) > 1 else None


def first_line(program: Program, found: tuple[Slurm, Registry]) -> str:
    with pytest.raises(AssertionError) as failed:
        program(*found, Evidence())
    return str(failed.value).partition("\n")[0]


def re_runs(found: tuple[Slurm, Registry]) -> int:
    return len(asked(found[0], "srun")) - 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_compute_nodes_take_part(program: Program) -> None:
    found = spanning(lambda group: None, nodes=5)
    program(*found, Evidence())
    (srun,) = asked(found[0], "srun")
    assert {"--nodes=5", "--nodelist=node01,node02,node03,node04,node05"} <= set(srun)


@pytest.mark.parametrize("bad", ["node01", "node03", "node04"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_bad_node_among_four_is_named(program: Program, bad: str) -> None:
    found = spanning(unreached(bad))
    line = first_line(program, found)
    assert line.startswith(f"{bad}: fails wherever it takes part; the other 3 nodes pass without it ({re_runs(found)} ")
    assert (
        "srun did not end within 300 s; job 9 is RUNNING, reason None; expected that all ranks end well; do: " in line
    )
    assert "controller" not in line
    assert re_runs(found) <= 9


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_bad_link_among_four_is_named(program: Program) -> None:
    found = spanning(unreached("node02", "node04"))
    line = first_line(program, found)
    assert line.startswith(
        "node02 <-> node04: fail together, and neither without the other: it is the link between them; the other 2 "
    )
    assert re_runs(found) <= 10


@pytest.mark.parametrize("program", PROGRAMS)
def test_where_all_are_bad_none_is_named_alone(program: Program) -> None:
    line = first_line(program, spanning(lambda group: hung()))
    assert "(no node is to blame more than others: each of node01, node02, node03, node04 fails; " in line
    line = first_line(program, spanning(lambda group: hung() if len(group) > 1 else None))
    assert line.startswith(
        "node01 + node02, node03 + node04: fail together, and each passes by itself: it is the link b"
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_of_two_nodes_both_are_named_unless_one_fails_by_itself(program: Program) -> None:
    found = spanning(unreached("node02"), nodes=2)
    assert first_line(program, found).startswith(
        "node01 + node02: fail together, and each passes by itself: it is the link between them, or an end of it; no "
        "other nodes are known to be fine (4 re-runs): node01, node02: "
    )
    alone = [srun for srun in asked(found[0], "srun") if "--nodes=1" in srun]
    assert [next(word for word in srun if "nodelist" in word) for srun in alone] == [
        "--nodelist=node01",
        "--nodelist=node02",
    ]
    assert all("--ntasks=2" in srun for srun in alone), "one rank alone would have nobody to talk to"
    line = first_line(program, spanning(lambda group: hung() if "node02" in group else None, nodes=2))
    assert line.startswith(
        "node02: fails wherever it takes part; the other node passes without it (5 re-runs): node02: "
    )


@pytest.mark.seen_to_fail("CON-16")
def test_a_sum_that_is_wrong_everywhere_is_laid_to_the_node_that_spoils_it() -> None:
    """All ranks get the wrong sum, the first one on node01: it is node02 that adds up wrongly."""

    def spoilt(group: tuple[str, ...]) -> Edit | None:
        def edit(told: Ranks) -> None:
            for one in told:
                one["allreduce"] += 1

        return edit if "node02" in group else None

    for nodes, others in ((2, "node passes"), (4, "3 nodes pass")):
        line = first_line(over_mpi, spanning(spoilt, nodes))
        assert line.startswith(f"node02: fails wherever it takes part; the other {others} without it ("), line


@pytest.mark.seen_to_fail("SLU-22")
def test_what_is_run_again_may_hang_for_less_long() -> None:
    found = spanning(unreached("node03"))
    first_line(hello, found)
    within = [call.timeout for call in transport(found[0].cluster, "controller").calls if call.argv[0] == "srun"]
    assert within[0] == 300
    assert set(within[1:]) == {45}


@pytest.mark.seen_to_fail("SLU-22")
def test_a_failure_that_does_not_come_again_blames_nobody() -> None:
    found = spanning(lambda group: None if asked(found[0], "srun")[1:] else hung())
    assert first_line(hello, found).startswith(
        "node01, node02, node03, node04: which node it is, is not known: it failed once, and not again in 2 re-runs of "
        "all: it comes and goes (2 re-runs): node01, node02, node03, node04: hello as 4×2 ranks ended with -9: srun "
    )


@pytest.mark.seen_to_fail("SLU-22", "CON-16", "CON-17")
def test_a_node_that_takes_no_jobs_is_named_before_anything_waits_for_it() -> None:
    found = slurm("", node02={"state": ["IDLE", "DRAIN"], "reason": "a fan"})
    for program in (hello, over_mpi, over_gloo):
        assert first_line(program, found).startswith(
            "node02: state IDLE+DRAIN, reason 'a fan'; expected that all compute nodes take jobs; do: "
        )
    assert not asked(found[0], "srun")
    assert two(slurm("", node01={"state": ["DOWN"]})[0]) == ("node02", "node01")


@pytest.mark.seen_to_fail("SLU-22")
def test_nodes_that_are_not_there() -> None:
    with pytest.raises(AssertionError, match="^local: one compute node; a program that spans nodes needs two"):
        everyone(spanning(lambda group: None, nodes=1)[0])
    with pytest.raises(AssertionError, match="^node02: slurmctld does not know this node; expected it in slurm.conf"):
        everyone(slurm("", node02={"name": "other"})[0])
    with pytest.raises(
        AssertionError, match=r"^node01: state DOWN, reason ''; expected that (.+)\nnode02: slurmctld does"
    ):
        everyone(slurm("", node01={"state": ["DOWN"], "reason": ""}, node02={"name": "other"})[0])
    idle = slurm("", node01={"reason": "looked at last week"})[0]
    assert everyone(idle) == ("node01", "node02"), "it takes jobs; that it has a reason is for SLU-08 to say"


def test_srun_names_nobody_when_it_hangs() -> None:
    result = Result((), -9, "", "srun did not end within 300 s\n", node="controller")
    assert culprit(result, "node01, node02") == "node01, node02"
    assert culprit(result) == "controller"
