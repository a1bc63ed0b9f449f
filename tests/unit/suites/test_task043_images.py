"""The checks of images go red for the right reason, and green where images are whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import SacctRecord
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result
from suites.phase6 import test_task043_images as checks
from tests.unit.suites.task042_fakes import FakeJob, Rules, new_measure
from tests.unit.suites.task043_fakes import BASE, GOOD, OTHER, failed, machines, said, transport

TABLE = said("sif-list.txt")
DAMAGED = "/mnt/shared/.ai-how-damaged-r1"


def whole(broken: dict[str, Rules], evidence: Evidence, measure: Measurements | None = None) -> None:
    cluster = machines(broken)
    checks.test_images_are_whole(Apptainer(cluster), Registry(cluster), evidence, measure or new_measure())


@pytest.mark.seen_to_fail("CON-07")
@pytest.mark.parametrize(
    ("node", "rule", "message"),
    [
        ("controller", ("apptainer sif list", failed("FATAL: no SIF")), r".*base.sif has no table of objects: 'FATAL"),
        ("controller", ("apptainer sif list", TABLE.replace("*System", "Data")), r".* has 0 file systems to run on"),
        (
            "controller",
            (("stat", "--format=%s"), "55697407\n"),
            r".* has 55697407 bytes, its table goes up to 55697408",
        ),
        ("node02", ("sha256sum", f"{OTHER}  x\n"), r".*base.sif reads with sha256 bbbb.*, the catalogue says aaaa"),
        ("node02", ("sha256sum", failed("No such file", 1)), r".*base.sif reads with sha256 nothing"),
    ],
)
def test_an_image_that_is_not_whole(evidence: Evidence, node: str, rule: Any, message: str) -> None:
    measure = new_measure()
    whole({}, evidence, measure)
    assert [item.node for item in measure.items] == ["base", "pytorch"]
    with pytest.raises(AssertionError, match=rf"^{node}: {message}"):
        whole({node: [rule]}, evidence)


@pytest.mark.seen_to_fail("CON-07")
def test_an_image_that_is_too_large(evidence: Evidence) -> None:
    with pytest.raises(LimitExceeded, match=r"^base: container.image_size is 5 GiB"):
        whole({"controller": [(("stat", "--format=%s"), f"{5 * 2**30}\n")]}, evidence)


def damaged(broken: dict[str, Rules], evidence: Evidence, measure: Measurements | None = None) -> None:
    failures: Rules = [
        (_starts(f"{DAMAGED}/{name}.sif"), failed(said(f"{name}.txt")))
        for name in ("missing", "empty", "truncated", "overwritten")
    ]
    usual: Rules = [("sh -c", ""), *failures, (_starts(BASE), "")]
    cluster = machines({node: [*broken.get(node, ()), *usual] for node in ("controller", "node01", "node02")})
    services = (Apptainer(cluster), Registry(cluster), Storage(cluster))
    checks.test_missing_or_corrupt_image(*services, evidence, measure or new_measure(), "r1")
    assert transport(cluster, "controller").calls[-1].argv == ("rm", "-rf", "--", DAMAGED)


def _starts(image: str) -> Callable[[tuple[str, ...]], bool]:
    def starts(argv: tuple[str, ...]) -> bool:
        return argv[:2] == ("apptainer", "exec") and image in argv

    return starts


@pytest.mark.seen_to_fail("CON-23")
@pytest.mark.parametrize(
    ("image", "answer", "message"),
    [
        ("missing", "", r"node02: a container of a missing image ended with 0: nothing on stderr"),
        ("empty", failed("Killed", -9), r"node02: a container of a empty image ended with -9: Killed"),
        ("truncated", failed('FATAL:   "true": not found in $PATH'), r"node02: .* truncated image failed with 'FATAL"),
        ("overwritten", failed("Segmentation fault", 139), r"node02: .* overwritten image failed with 'Segmentation"),
    ],
)
def test_a_damaged_image_that_does_not_fail_clearly(evidence: Evidence, image: str, answer: Any, message: str) -> None:
    measure = new_measure()
    damaged({}, evidence, measure)
    assert [(item.metric, item.samples) for item in measure.items] == [("container.missing_image", 8)]
    with pytest.raises(AssertionError, match=f"^{message}"):
        damaged({"node02": [(_starts(f"{DAMAGED}/{image}.sif"), answer)]}, evidence)


@pytest.mark.seen_to_fail("CON-23")
def test_a_damaged_image_that_fails_late_or_because_all_do(evidence: Evidence) -> None:
    slow = Result((), 255, "", said("missing.txt"), seconds=31.0)
    with pytest.raises(LimitExceeded, match=r"^container.missing_image is 31 s"):
        damaged({"node01": [(_starts(f"{DAMAGED}/missing.sif"), slow)]}, evidence)
    with pytest.raises(AssertionError, match=r"^node01: the good image fails too: FATAL: no user namespace"):
        damaged({"node01": [(_starts(BASE), failed("FATAL: no user namespace"))]}, evidence)


@dataclass
class ReplacingSlurm:
    """Slurm with one batch job that tells ``old``, and an srun that tells ``new``."""

    cluster: Any
    old: str
    new: str
    state: str = "COMPLETED"
    runs: bool = True
    folder: str = "/mnt/shared/jobs/r1"
    cancelled: list[int] = field(default_factory=list)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def submit(self, _: Any) -> int:
        return 5

    def cancel(self, *ids: int) -> None:
        self.cancelled += ids

    def srun(self, *argv: str, **_: Any) -> Result:
        return Result(argv, 0, self.new, node="controller")

    def query(self, *argv: str, check: bool = True, timeout: float = 30) -> Result:
        self.asked.append(argv)
        status = 1 if argv[0] == "test" and not self.runs else 0
        return Result(argv, status, self.old if argv[0] == "cat" else "", node="controller")

    def wait_all(self, ids: Sequence[int], within: float) -> tuple[SacctRecord, ...]:
        return (SacctRecord.of(FakeJob("outlive", ids[0], state=self.state).accounted()),)


def generation(first: str, last: str, total: int = 499500) -> str:
    return json.dumps({"node": "node01", "first": first, "last": last, "sum": total})


OLD, NEW = generation("original", "original"), generation("replaced", "replaced")


def replace(evidence: Evidence, digests: Sequence[str] = (GOOD, OTHER), **slurm: Any) -> None:
    told = [f"{digest}  x\n" if digest else failed("No such file", 1) for digest in digests]
    rules: Rules = [("sh -c", ""), ("sha256sum", told)]
    cluster = machines({"controller": rules, "node01": rules, "node02": rules})
    asked: Any = ReplacingSlurm(cluster, **({"old": OLD, "new": NEW} | slurm))
    try:
        checks.test_image_replaced_while_a_job_runs(asked, Apptainer(cluster), Registry(cluster), evidence, "r1")
    finally:
        path = "/mnt/shared/containers/custom-images/visible-r1-replaced.sif"
        assert transport(cluster, "node01").calls[-1].argv == ("rm", "-f", "--", path, f"{path}.new")
        assert asked.cancelled == [5], "the job was left behind"
        assert asked.asked[-1] == ("rm", "-rf", "--", "/mnt/shared/jobs/r1/replaced-r1")


@pytest.mark.seen_to_fail("CON-22")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"old": generation("original", "replaced")},
            r"job 5: .*after it was replaced, read replaced with a sum of 499500",
        ),
        (
            {"old": generation("original", "original", 0)},
            r"job 5: .* read original with a sum of 0; expected the original",
        ),
        ({"old": "Bus error"}, r"job 5 \(outlive\) on node01: printed 'Bus error', expected JSON"),
        ({"state": "FAILED"}, r"job 5 \(outlive\) on node01: ended as FAILED"),
        ({"new": OLD}, r"node01: a job begun after the replacement has the original image"),
        (
            {"digests": (GOOD, GOOD)},
            r"controller: .*visible-r1-replaced.sif reads with sha256 a{16} after it was replaced",
        ),
        ({"digests": (GOOD, "")}, r"controller: .* reads with sha256 nothing after it was replaced"),
    ],
)
def test_a_replaced_image_that_reaches_the_wrong_job(evidence: Evidence, changes: dict[str, Any], message: str) -> None:
    replace(evidence)
    with pytest.raises(AssertionError, match=f"^{message}"):
        replace(evidence, **changes)


@pytest.mark.seen_to_fail("CON-22")
def test_a_job_that_never_begins(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(probe: Callable[[], bool], *, where: str, what: str, **_: Any) -> None:
        assert not probe()
        raise DeadlineExceeded(where, f"not {what} within 30 s", expected=what)

    evidence.attach("a job that never begins", "tells nothing")
    monkeypatch.setattr(checks, "wait_for", never)
    with pytest.raises(AssertionError, match=r"^job 5: not running \(it makes .*/original\) within 30 s"):
        replace(evidence, runs=False)
