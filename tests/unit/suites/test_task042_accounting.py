"""The checks on the accounting go red for the right reason, and green on a Slurm that does right."""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.shell import Result
from suites.phase6 import test_task042_accounting as checks
from tests.unit.suites.task042_fakes import DATA, FakeJob, Rules, fake_slurm, new_measure


def associations(**renamed: str) -> Rules:
    text = (DATA / "24.11.5-sacctmgr-association.v0.0.42.json").read_text().replace("aihowslu", "local")
    for old, new in renamed.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return [("sacctmgr show association", text)]


@pytest.mark.seen_to_fail("SLU-26")
def test_an_accounting_without_user_or_daemon(evidence: Evidence) -> None:
    checks.test_slurmdbd_knows_cluster_account_and_user(fake_slurm(first=associations()), evidence)
    with pytest.raises(
        AssertionError, match=r"^controller: the accounting has no user local/default/hpc; it has \['local/"
    ):
        checks.test_slurmdbd_knows_cluster_account_and_user(fake_slurm(first=associations(hpc="other")), evidence)
    with pytest.raises(AssertionError, match=r"^controller: the accounting has no account local/default"):
        checks.test_slurmdbd_knows_cluster_account_and_user(fake_slurm(first=associations(local="else")), evidence)
    refused = Result((), 1, stderr="sacctmgr: error: Problem talking to the database: Connection refused\n")
    with pytest.raises(AssertionError, match=r"^controller: sacctmgr ended with 1: sacctmgr: error: Problem talking"):
        checks.test_slurmdbd_knows_cluster_account_and_user(fake_slurm(first=[("sacctmgr", refused)]), evidence)


def recorded(stdout: str = "100.1\n101.2\n", code: int = 3, **record: object) -> FakeJob:
    return FakeJob("record", 4, stdout, "FAILED", code, record={"partition": "debug"} | record)


@pytest.mark.seen_to_fail("SLU-27")
def test_a_record_that_is_wrong(evidence: Evidence) -> None:
    checks.test_the_record_is_correct(fake_slurm([recorded()]), evidence, new_measure())
    with pytest.raises(AssertionError, match=r"^job 4 .*: the accounting has partition 'gpu', expected 'debug'"):
        checks.test_the_record_is_correct(fake_slurm([recorded(partition="gpu")]), evidence, new_measure())
    with pytest.raises(AssertionError, match=r"^job 4 .*: the accounting has user 'root', expected 'hpc'"):
        checks.test_the_record_is_correct(fake_slurm([recorded(user="root")]), evidence, new_measure())
    with pytest.raises(AssertionError, match=r"^job 4 .*: the accounting has exit '0:0', expected '3:0'"):
        checks.test_the_record_is_correct(fake_slurm([recorded(code=0)]), evidence, new_measure())
    with pytest.raises(LimitExceeded, match=r"^node01: slurm.elapsed_error is 4 s"):
        checks.test_the_record_is_correct(fake_slurm([recorded("100.0\n105.0\n")]), evidence, new_measure())
    with pytest.raises(AssertionError, match=r"^job 4 .*: said '', expected when it began and ended"):
        checks.test_the_record_is_correct(fake_slurm([recorded("")]), evidence, new_measure())


@pytest.mark.seen_to_fail("SLU-28")
def test_gpus_that_are_not_accounted(evidence: Evidence) -> None:
    text = (DATA / "24.11.5-sacctmgr-tres.v0.0.42.json").read_text()
    tracked: Rules = [("sacctmgr show tres", text)]
    job = FakeJob("gpu-tres", 4, tres={"cpu": 1, "gres/gpu": 1})
    checks.test_gpus_are_accounted(fake_slurm([job], first=tracked), evidence)
    found = json.loads(text)
    found["TRES"] = [entry for entry in found["TRES"] if entry["type"] != "gres"]
    untracked: Rules = [("sacctmgr show tres", json.dumps(found))]
    with pytest.raises(AssertionError, match=r"^controller: the accounting tracks .*expected gres/gpu among them"):
        checks.test_gpus_are_accounted(fake_slurm([job], first=untracked), evidence)
    without = FakeJob("gpu-tres", 4, tres={"cpu": 1})
    with pytest.raises(
        AssertionError, match=r"^job 4 .* on node01: the accounting has gres/gpu=0 for a job with gpu:1"
    ):
        checks.test_gpus_are_accounted(fake_slurm([without], first=tracked), evidence)


AWAY = Result((), 1, stderr="sacct: error: Problem talking to the database: Connection refused\n")


@pytest.mark.seen_to_fail("SLU-29")
def test_jobs_that_suffer_from_the_outage(evidence: Evidence) -> None:
    outage: Rules = [("systemctl", ""), ("sacct --allusers", AWAY)]
    job = FakeJob("dbd-outage", 4)
    slurm = fake_slurm([job], first=outage)
    checks.test_slurmdbd_outage(slurm, evidence)
    failed = FakeJob("dbd-outage", 4, state="FAILED", reason="AccountingPolicy")
    broken = fake_slurm([failed], first=outage)
    with pytest.raises(
        AssertionError, match=r"^job 4: FAILED \(AccountingPolicy\) while slurmdbd was away, expected COMPL"
    ):
        checks.test_slurmdbd_outage(broken, evidence)
    units = [call.argv for call in broken.cluster.controller.transport.calls if call.argv[0] == "systemctl"]  # type: ignore[attr-defined]  # a FakeTransport
    assert units == [("systemctl", "stop", "slurmdbd"), ("systemctl", "start", "slurmdbd")]
    with pytest.raises(AssertionError, match=r"^controller: sacct answers although slurmdbd was stopped"):
        checks.test_slurmdbd_outage(fake_slurm([job], first=[outage[0], ("sacct --allusers", "")]), evidence)
    shifted = FakeJob("dbd-outage", 4, record={"time": {"submission": 100, "start": 100, "end": 160, "elapsed": 60}})
    with pytest.raises(
        AssertionError, match=r"^job 4 .*: the record that arrived late has end 160, slurmctld saw 17954490"
    ):
        checks.test_slurmdbd_outage(fake_slurm([shifted], first=outage), evidence)
