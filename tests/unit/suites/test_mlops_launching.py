"""The checks of how distributed jobs start go red for the right reason, and green on what real jobs said."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from suites.mlops._trainer import Trainer
from suites.mlops.distributed import test_launching as checks
from suites.mlops.distributed._run import Runs
from tests.fakes import WRITES
from tests.unit.suites.mlops_fakes import DATA, scale
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm
from tests.unit.suites.task042_fakes import new_measure as figures
from tests.unit.suites.task043_fakes import transport

FOLDER = "/mnt/shared/jobs/r1/mlops-r9"
DIGITS = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
IN_USE = (
    "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: "
    "12029, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use\n"
)
FSDP = (DATA / "fsdp.json").read_text()
BOARD = (DATA / "board.json").read_text()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> Iterator[Callable[..., Runs]]:
    """Make runs whose jobs say what is given, each on a lease of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    leases: list[Lease] = []

    def make(*jobs: FakeJob, errors: str = "INFO: x\n") -> Runs:
        lease = Lease.acquire(f"plug{len(leases)}", "r9")
        leases.append(lease)
        rules: Rules = [
            *((f"cat -- {FOLDER}/{one.name}-{one.id}.out", one.stdout) for one in jobs),
            *((f"cat -- {FOLDER}/{one.name}-{one.id}.err", errors) for one in jobs),
            (f"cat -- {FOLDER}/ddp/metrics.json", (DATA / "ddp-metrics.json").read_text()),
            (f"cat -- {FOLDER}/ddp/ranks.json", (DATA / "ddp-ranks.json").read_text()),
            WRITES,
            ("sha256sum", f"{DIGITS}  x\n"),
        ]  # fmt: skip
        slurm = fake_slurm(jobs, first=rules)
        trainer = Trainer(SlurmLauncher(slurm), Once(lease), slurm.cluster, "/i.sif", "r9")
        return Runs(trainer, slurm, scale(), evidence)

    yield make
    for lease in leases:
        lease.release()


def fsdp(edit: Callable[[list[dict[str, Any]]], object] | None = None) -> FakeJob:
    *first, last = FSDP.strip().splitlines()
    told = json.loads(last)
    if edit:
        edit(told)
    return FakeJob("fsdp", 12, "\n".join([*first, json.dumps(told)]) + "\n", nodes="node01")


@pytest.mark.seen_to_fail("TR2-16")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda told: told[1]["losses"].__setitem__(2, float("nan")), r"node01: rank 1 of .*: its losses are \[.*nan"),
        (lambda told: told[1]["losses"].__setitem__(2, 1.0), "node01: rank 1 of .*, rank 0 has"),
        (lambda told: told[0].update(losses=[1.0]), "node01: rank 0 of .*: 1 steps, not 5"),
        (
            lambda told: told[1].update(part=told[1]["whole"]),
            r"node01: rank 1 of .*: keeps (\d+) of \1 numbers; expected a",
        ),
        (lambda told: told[1].update(part=5), "node01: job 12 .*: the parts are 19146 numbers, the network has 38282"),
        (lambda told: told.pop(), r"node01: job 12 \(fsdp\): ranks \[0\]"),
    ],
)
def test_parameters_that_are_not_shared_out(
    runs: Callable[..., Runs], evidence: Evidence, edit: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    said = [line for line in FSDP.splitlines() if line.startswith("[")]
    count = len(json.loads(said[0])[0]["losses"])
    whole = fsdp(lambda told: [one.update(losses=one["losses"][:5]) for one in told] if count > 5 else None)
    checks.test_fsdp(runs(whole), evidence)

    def spoilt(told: list[dict[str, Any]]) -> None:
        for one in told:
            one["losses"] = one["losses"][:5]
        edit(told)

    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_fsdp(runs(fsdp(spoilt)), evidence)


def pair(first: str = "node01:12025", second: str = "node01:12027", **changes: Any) -> tuple[FakeJob, FakeJob]:
    times = (1795449000, 1795449000, 1795449020)
    one = FakeJob("ddp-one", 13, f"meets: {first}\nepoch 1: loss 0.6\n", times=times)
    return one, FakeJob("ddp-other", 14, f"meets: {second}\n", **{"times": times, **changes})


@pytest.mark.seen_to_fail("TR2-17")
@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (pair(second="node01:12025"), r"node01: job 13 .* both met at node01:12025; expected distinct ports"),
        (pair(second="node01:"), "node01: job 14 .*: meets at 'node01:', expected a host and a port"),
        (pair(second="node01:0"), "node01: job 14 .*: meets at 'node01:0', expected a host and a port"),
        (
            pair(times=(1795449000, 1795449020, 1795449030)),
            r"node01: job 13 .* did not run at the same time: 1795449000 t",
        ),
        (pair(state="FAILED", code=1), r"node01: job 14 \(ddp-other\) ended as FAILED with status 1"),
    ],
)
def test_two_jobs_that_do_not_get_on(
    runs: Callable[..., Runs], evidence: Evidence, jobs: tuple[FakeJob, ...], message: str
) -> None:
    found = runs(*pair())
    checks.test_two_at_once(found, evidence)
    calls = transport(found.slurm.cluster, "controller").calls
    asked = [set(call.argv) for call in calls if call.argv[0] == "sbatch"]
    assert len(asked) == 2
    assert all({"--nodelist=node01", "--gres=gpu:1", "--mem=512M"} <= words for words in asked)
    with pytest.raises(AssertionError, match=f"^{message}"):
        checks.test_two_at_once(runs(*jobs), evidence)


@pytest.mark.seen_to_fail("TR2-17")
def test_a_port_that_is_taken(runs: Callable[..., Runs], evidence: Evidence) -> None:
    def job(**changes: Any) -> FakeJob:
        usual = {"state": "FAILED", "code": 1, "stdout": "taken: node01:12029\nmeets: node01:12029\n"}
        return FakeJob("ddp-taken", 15, **{**usual, **changes})

    found = runs(job(), errors=IN_USE)
    checks.test_port_taken(found, evidence, figures())
    (script,) = (c.input.decode() for c in transport(found.slurm.cluster, "controller").calls if c.argv[0] == "sbatch")
    assert f"/i.sif python3 {FOLDER}/payloads/occupied.py sh -c " in script
    late = (1795449000, 1795449000, 1795449121)
    for one, errors, message in (
        (
            job(state="COMPLETED", code=0),
            IN_USE,
            "node01: job 15 .*: its port was taken, and it is COMPLETED; expected FA",
        ),
        (job(state="TIMEOUT"), IN_USE, "node01: job 15 .*: its port was taken, and it is TIMEOUT; expected FAILED"),
        (job(), "RuntimeError: no\n", "node01: job 15 .* its standard error does not say that the address is in use"),
        (job(stdout=""), IN_USE, "node01: job 15 .*: did not even take the port"),
    ):
        with pytest.raises(AssertionError, match=f"^{message}"):
            checks.test_port_taken(runs(one, errors=errors), evidence, figures())
    with pytest.raises(LimitExceeded, match=r"^node01: distributed\.port_taken is 121 s, expected at most 120 s"):
        checks.test_port_taken(runs(job(times=late), errors=IN_USE), evidence, figures())


@pytest.mark.seen_to_fail("TR2-18")
def test_a_server_that_does_not_show_the_training(runs: Callable[..., Runs], evidence: Evidence) -> None:
    training = FakeJob("ddp", 7, times=(1795449000, 1795449000, 1795449060))

    def run(**changes: Any) -> None:
        said = json.dumps(json.loads(BOARD) | changes)
        checks.test_tracking_server(runs(training, FakeJob("board", 16, f"{said}\n")), evidence, figures())

    run()
    scalars = json.loads(BOARD)["scalars"]
    for changes, message in (
        ({"status": 503}, r"node01: job 16 \(board\): TensorBoard answered with 503, expected 200"),
        ({"scalars": {}}, r"node01: job 16 \(board\): TensorBoard shows the losses \[\], the training had \["),
        (
            {"scalars": {**scalars, "loss": scalars["loss"][:2]}},
            r"node01: job 16 \(board\): TensorBoard shows the losses",
        ),
    ):
        with pytest.raises(AssertionError, match=f"^{message}"):
            run(**changes)
    with pytest.raises(LimitExceeded, match=r"^node01: tracking\.tensorboard\.start is 91 s, expected at most 90 s"):
        run(seconds=91.0)
    broken = FakeJob("board", 16, state="FAILED", code=1)
    with pytest.raises(
        AssertionError, match=r"^node01: job 16 \(board\) ended as FAILED with status 1: TensorBoard ended"
    ):
        checks.test_tracking_server(runs(training, broken, errors="TensorBoard ended with 1\n"), evidence, figures())
