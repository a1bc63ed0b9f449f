"""The checks of MPI on the nodes go red for the right reason, and green on what a cluster in order said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_ai_how.errors import FactError
from pytest_ai_how.facts import Readings
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONFIG
from pytest_ai_how.shell import Result
from suites.phase5 import test_mpi as checks
from suites.phase5._facts import PLUGINS
from suites.phase5._ranks import Ran
from tests.unit.suites.phase5_fakes import IMAGE, NO_MPI, Edit, Ranks, asked, captured, changed, edited, slurm
from tests.unit.suites.task042_fakes import new_measure

LISTED = "MPI plugin types are...\n\tnone\n\tpmix\n\tcray_shasta\n\tpmi2\nspecific pmix plugin versions available: v5"
SETTINGS = "MpiDefault              = pmix\nSchedulerType           = sched/backfill"


def plugins(evidence: Evidence, *, listed: Any = LISTED, settings: str = SETTINGS) -> None:
    told = {"node01": {PLUGINS: LISTED, CONFIG: SETTINGS}, "node02": {PLUGINS: listed, CONFIG: settings}}
    checks.test_plugins(Facts(Readings.told(told), evidence))


@pytest.mark.seen_to_fail("SLU-23")
def test_plugins_that_are_missing(evidence: Evidence) -> None:
    plugins(evidence)
    with pytest.raises(
        AssertionError, match=r"^node02: `srun --mpi=list` has no pmix, it has none, cray_shasta, pmi2;"
    ):
        plugins(evidence, listed=LISTED.replace("\tpmix\n", ""))
    with pytest.raises(
        AssertionError, match=r"^node02: `srun --mpi=list` has no pmi2, it has none, pmix, cray_shasta;"
    ):
        plugins(evidence, listed=LISTED.replace("\tpmi2\n", ""))
    with pytest.raises(AssertionError, match=r"^node02: MpiDefault is none, expected pmix; do: set it in slurm.conf"):
        plugins(evidence, settings=SETTINGS.replace("= pmix", "= none"))
    with pytest.raises(AssertionError, match=r"^node02: MpiDefault is unset, expected pmix"):
        plugins(evidence, settings="SchedulerType = sched/backfill")
    with pytest.raises(FactError, match=r"^node02: MPI plug-ins of Slurm is not known: .* said 'nothing' \(no list of"):
        plugins(evidence, listed="")
    with pytest.raises(FactError, match=r"^node02: MPI plug-ins of Slurm is not known: .*exited with 127: srun: not"):
        plugins(evidence, listed=Result((), 127, "", "srun: not found\n"))
    with pytest.raises(AssertionError, match="^no machine was asked"):
        checks.test_plugins(Facts(Readings.told({}), evidence))


Check = Callable[[Slurm, Evidence, Measurements, str, str], None]
HELLO, PI, MATMUL = checks.test_hello, checks.test_pi, checks.test_matrix_product
DATA = {HELLO: "hello", PI: "pi", MATMUL: "matrix_product"}


def judge(check: Check, answer: Any, evidence: Evidence, image: str = "") -> tuple[Slurm, Measurements]:
    found, measure = slurm(answer)[0], new_measure()
    check(found, evidence, measure, "r1", image)
    return found, measure


def red(check: Check, answer: Any, evidence: Evidence, message: str, image: str = "") -> None:
    """The check fails, and this is what it says of the first run; on whom that is laid is in test_phase5_culprit.py."""
    with pytest.raises(AssertionError, match=rf"(?m)^at first: {message}"):
        judge(check, answer, evidence, image)


def contained(name: str, *edits: Edit) -> str:
    """What the ranks told, each in a container."""

    def edit(told: Ranks) -> None:
        for one in told:
            one["container"] = IMAGE
        for each in edits:
            each(told)

    return edited(name, edit)


@pytest.mark.parametrize("check", DATA)
def test_what_a_cluster_in_order_said(check: Check, evidence: Evidence) -> None:
    found, measure = judge(check, edited(DATA[check]), evidence)
    (srun,) = asked(found, "srun")
    ranks = 8 if check is PI else 4
    assert {"--nodes=2", f"--ntasks={ranks}", "--mpi=pmix"} <= set(srun)
    assert ("--overcommit" in srun, "--ntasks-per-node=2" in srun) == (check is PI, check is not PI)
    assert all(item.verdict == "ok" for item in measure.items)
    (cancelled,) = asked(found, "scancel")
    assert cancelled[1:] == ("--user=hpc", next(word for word in srun if word.startswith("--job-")).replace("job-", ""))
    assert asked(found, "rm")[0][:3] == ("rm", "-rf", "--")


def test_overcommitting_is_told(evidence: Evidence) -> None:
    judge(PI, edited("pi"), evidence)
    (said,) = [item for item in evidence.items if item.name == "CPUs"]
    assert said.content == "overcommitted: 2×4 ranks; node01 has 2, node02 has 2"
    found, _ = slurm(edited("pi"), node01={"cpus": 64}, node02={"cpus": 4})
    PI(found, Evidence(), new_measure(), "r1", "")
    assert "--ntasks-per-node=4" in asked(found, "srun")[0]


ALONE = "".join(json.dumps([told | {"rank": 0, "size": 1}]) + "\n" for told in captured("hello"))
HUNG = Result((), -9, "", "srun did not end within 300 s; job 9 is RUNNING, reason None\n")


@pytest.mark.seen_to_fail("SLU-22")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ALONE, "node01, node02: hello is 4 programs of 1 rank each, expected one of 4: nothing told them of "),
        (NO_MPI, "node02: hello as 2×2 ranks ended with 1: ModuleNotFoundError: No module named 'mpi4py'; expected"),
        (HUNG, "node01, node02: hello as 2×2 ranks ended with -9: srun did not end within 300 s; job 9 is RUNNING"),
        ("", "node01, node02: hello as 2×2 ranks said nothing"),
        ("Segmentation fault\n", "node01, node02: hello printed 'Segmentation fault\\\\n', expected JSON of all ranks"),
        (edited("hello", changed(2, node="node01")), "node01: 3 ranks of hello ran here, expected 2"),
        (edited("hello", lambda told: [one.update(node="node01") for one in told] and None),
         r"node01: hello ran on node01; expected 2 distinct nodes \(ranks: 0 on node01, 1 on node01, 2"),
        (edited("hello", lambda told: told.pop() and None),
         r"node01: hello has the ranks 0 on node01, 1 on node01, 2 on node02; expected 0 to 3, each once"),
        (edited("hello", changed(3, size=3)), "node02: rank 3 of hello sees 3 ranks, expected 4"),
        (edited("hello", changed(2, heard="rank 0 of 4 on node01")),
         "node02: rank 2 of hello: heard is 'rank 0 of 4 on node01', expected 'rank 1 of 4 on node01'"),
        (edited("hello", changed(1, pmix="")), "node01: rank 1 of hello was not started by PMIx"),
    ],
)  # fmt: skip
def test_ranks_that_are_not_one_program(answer: Any, message: str, evidence: Evidence) -> None:
    red(HELLO, answer, evidence, message)


@pytest.mark.seen_to_fail("SLU-22")
def test_a_wrong_pi(evidence: Evidence) -> None:
    share = captured("pi")[5]["share"]
    said = rf"node02: rank 5 of pi summed 0\.4 over .*expected {str(share)[:10]}"
    red(PI, edited("pi", changed(5, share=0.4)), evidence, said)
    said = r"node01: rank 3 of pi has 3\.14 as the sum of all ranks, expected 3\.14159"
    red(PI, edited("pi", changed(3, pi=3.14)), evidence, said)


@pytest.mark.seen_to_fail("SLU-22")
def test_a_pi_that_is_too_coarse(monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> None:
    """Two intervals: all ranks agree, and with them the recomputation, but it is not π."""
    monkeypatch.setattr(checks, "INTERVALS", 2)
    coarse = [4 / (1 + 0.25**2) / 2, 4 / (1 + 0.75**2) / 2, *[0.0] * 6]
    told = [one | {"share": share, "pi": sum(coarse)} for one, share in zip(captured("pi"), coarse, strict=True)]
    with pytest.raises(LimitExceeded, match=r"^mpi\.pi\.error is 0\.0207603 fraction, expected at most 0\.0001"):
        judge(PI, json.dumps(told), evidence)


def off_by_one(told: list[dict[str, Any]]) -> None:
    told[2]["rows"][3][5] += 1


def without_its_last_row(told: list[dict[str, Any]]) -> None:
    told[1]["rows"].pop()


@pytest.mark.seen_to_fail("SLU-22")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (edited("matrix_product", off_by_one), r"node02: rank 2 of matmul: element 35, 5 of the product is -?\d+, exp"),
        (
            edited("matrix_product", without_its_last_row),
            r"node01: no rank of matmul has row 31 of the product \(1 mis",
        ),
        (edited("matrix_product", changed(3, first=60)), "node02: rank 3 of matmul: element 60, "),
    ],
)
def test_a_wrong_product(answer: Any, message: str, evidence: Evidence) -> None:
    red(MATMUL, answer, evidence, message)


@pytest.mark.seen_to_fail("SLU-22")
def test_programs_that_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "run", lambda *_: Ran("hello", tuple(captured("hello")), 390.0))
    with pytest.raises(LimitExceeded, match=r"^mpi\.hello is 390 s, expected at most 300 s"):
        judge(HELLO, "", Evidence())


# in containers


@pytest.mark.parametrize("check", DATA)
def test_in_containers_each_rank_is_started_by_apptainer(check: Check, evidence: Evidence) -> None:
    found, measure = judge(check, contained(DATA[check]), evidence, IMAGE)
    (srun,) = asked(found, "srun")
    assert srun[srun.index("apptainer") :][:2] == ("apptainer", "exec")
    assert {IMAGE, "--mpi=pmix", "--nodes=2", f"--mem={4 * 192 if check is PI else 2 * 192}M"} <= set(srun)
    assert all(item.verdict == "ok" for item in measure.items)


@pytest.mark.seen_to_fail("CON-16")
@pytest.mark.parametrize(
    ("check", "answer", "message"),
    [
        (HELLO, NO_MPI, "node02: hello as 2×2 ranks ended with 1: ModuleNotFoundError: No module named 'mpi4py'"),
        (HELLO, edited("hello"), "node01: rank 0 of hello: container is '', expected '/mnt/shared/containers/base-ima"),
        (HELLO, contained("hello", changed(3, container="")), "node02: rank 3 of hello: container is '', expected"),
        (HELLO, contained("hello", changed(1, pmix="")), "node01: rank 1 of hello was not started by PMIx"),
        (HELLO, ALONE, "node01, node02: hello is 4 programs of 1 rank each, expected one of 4"),
        (PI, contained("pi", changed(5, share=0.4)), r"node02: rank 5 of pi summed 0\.4 over its intervals, expected"),
        (MATMUL, contained("matrix_product", off_by_one), "node02: rank 2 of matmul: element 35, 5 of the product is"),
    ],
)
def test_programs_in_containers_that_go_wrong(check: Check, answer: Any, message: str, evidence: Evidence) -> None:
    red(check, answer, evidence, message, IMAGE)


@pytest.mark.seen_to_fail("SLU-22")
def test_ranks_of_the_nodes_are_in_no_container(evidence: Evidence) -> None:
    red(HELLO, contained("hello"), evidence, "node01: rank 0 of hello: container is '/mnt/shared/.*', expected ''")
