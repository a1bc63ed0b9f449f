"""TASK-042: what the accounting knows, and what becomes of it when slurmdbd is away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.services.slurm.values import document

from ._slurm_jobs import collect, completed, judged, run_job, submit
from ._slurm_units import stopped

pytestmark = pytest.mark.requires("slurm", "accounting")


@pytest.mark.check("SLU-26")
def test_slurmdbd_knows_cluster_account_and_user(slurm: Slurm, evidence: Evidence) -> None:
    """Slurmdbd answers, and knows the cluster, the account, and the job user in it."""
    config = slurm.cluster.config
    assert config.slurm is not None, f"{config.name}: no slurm section in the cluster's YAML"
    shown = slurm.query("sacctmgr", "show", "association", "--json", check=False)
    evidence.result(shown)
    assert shown.ok, (
        f"{shown.node}: sacctmgr ended with {shown.returncode}: {shown.stderr.strip()[-300:]}; expected slurmdbd to "
        "answer; do: `systemctl status slurmdbd mariadb` there"
    )
    known = {association(each) for each in document(shown).get("associations") or ()}
    cluster, account, user = config.slurm.cluster, config.slurm.account, config.user
    for wanted, what in (((cluster, account, ""), "account"), ((cluster, account, user), "user")):
        assert wanted in known, (
            f"{shown.node}: the accounting has no {what} {'/'.join(filter(None, wanted))}; it has "
            f"{sorted('/'.join(filter(None, each)) for each in known)}; do: `sacctmgr add {what}`"
        )


def association(raw: Mapping[str, Any]) -> tuple[str, str, str]:
    """Cluster, account and user (empty for an account's own) of an association."""
    return str(raw.get("cluster", "")), str(raw.get("account", "")), str(raw.get("user", ""))


@pytest.mark.check("SLU-27")
@pytest.mark.requires("shared-storage")
def test_the_record_is_correct(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """User, account, partition, state, exit code and elapsed time on record are those of the job."""
    config = slurm.cluster.config
    assert config.slurm is not None, f"{config.name}: no slurm section in the cluster's YAML"
    partition = config.slurm.partitions[-1].name
    script = "date +%s.%N; sleep 1; date +%s.%N; exit 3"
    run = run_job(slurm, evidence, JobSpec(script, name="record", partition=partition, mem=16))
    record = run.record
    expected = {
        "user": config.user,
        "account": config.slurm.account,
        "cluster": config.slurm.cluster,
        "partition": partition,
        "state": "FAILED",
        "exit": "3:0",
        "name": "record",
    }
    for field, value in expected.items():
        seen = str(getattr(record, field))
        assert seen == value, f"{run.label}: the accounting has {field} {seen!r}, expected {value!r}"
    times = [float(line) for line in run.stdout.split()]
    assert len(times) == 2, f"{run.label}: said {run.stdout!r}, expected when it began and ended"
    measure("slurm.elapsed_error", abs(record.elapsed - (times[1] - times[0])), "s", node=run.node)


@pytest.mark.check("SLU-28")
@pytest.mark.requires("shared-storage")
@pytest.mark.requires("gpu")
def test_gpus_are_accounted(slurm: Slurm, evidence: Evidence) -> None:
    """``gres/gpu`` is a resource that the accounting tracks, and a GPU job's record has it."""
    shown = slurm.query("sacctmgr", "show", "tres", "--json", check=False)
    evidence.result(shown)
    tracked = {f"{each['type']}/{each['name']}".rstrip("/") for each in document(shown).get("TRES") or ()}
    assert "gres/gpu" in tracked, (
        f"{shown.node}: the accounting tracks {sorted(tracked)}, expected gres/gpu among them; do: set "
        "AccountingStorageTRES=gres/gpu in slurm.conf"
    )
    run = completed(run_job(slurm, evidence, JobSpec("true", name="gpu-tres", gres="gpu:1", mem=16)))
    granted = run.record.tres.get("gres/gpu", 0)
    assert granted == 1, f"{run.label}: the accounting has gres/gpu={granted} for a job with gpu:1, expected 1"


@pytest.mark.exclusive("slurm", "accounting")
@pytest.mark.disruptive
@pytest.mark.check("SLU-29")
@pytest.mark.requires("shared-storage")
@pytest.mark.requires("owned")
def test_slurmdbd_outage(slurm: Slurm, evidence: Evidence) -> None:
    """While slurmdbd is away jobs run; when it is back their records arrive."""
    controller = slurm.cluster.controller
    with stopped(controller, "slurmdbd", evidence):
        away = slurm.query("sacct", "--allusers", check=False)
        evidence.result(away, "sacct during the outage")
        assert not away.ok, f"{controller.name}: sacct answers although slurmdbd was stopped; there was no outage"
        job = submit(slurm, JobSpec("true", name="dbd-outage", mem=16))
        with judged():
            record = slurm.ended(job)[job]
        evidence.attach("slurmctld's record during the outage", str(record))
        assert record.state == "COMPLETED", (
            f"job {job}: {record.state} ({record.reason}) while slurmdbd was away, expected COMPLETED"
        )
    run = completed(collect(slurm, evidence, [job])[0])
    assert run.record.end == record.end, (
        f"{run.label}: the record that arrived late has end {run.record.end}, slurmctld saw {record.end}"
    )
