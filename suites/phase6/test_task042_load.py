"""TASK-042: many jobs at once, how soon a job starts, and the job that runs into its time limit."""

from __future__ import annotations

import time
from statistics import median

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import JobSpec, Slurm

from ._slurm_jobs import Run, collect, completed, judged, submit
from ._slurm_payloads import payload
from ._slurm_time_limit import time_limit_job

pytestmark = pytest.mark.requires("slurm", "shared-storage")
#: The load that SLU-47 names, and from how many jobs SLU-48 takes its median.
SHORT_JOBS = 100
SAMPLES = 5


@pytest.mark.exclusive
@pytest.mark.check("SLU-47")
def test_many_short_jobs(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """A hundred short jobs, each submitted by itself, are accepted and complete."""
    options = ("--job-name=short", "--mem=16M", "--time=1", "--output=/dev/null", f"--chdir={slurm.folder}")
    since = time.monotonic()
    many = ("sh", "-s", "--", str(SHORT_JOBS), *options)
    submitted = slurm.query(*many, input=payload("many.sh"), timeout=120, check=False)
    evidence.result(submitted)
    ids = [int(line.split(";")[0]) for line in submitted.stdout.split() if line.split(";")[0].isdecimal()]
    accepted = f"{len(ids)} of {SHORT_JOBS} jobs were accepted"
    assert ids, f"{submitted.node}: no job was accepted: {submitted.stderr.strip()[-300:]}"
    with judged():
        records = slurm.wait_all(ids, within=240)
    took = time.monotonic() - since
    done = [record for record in records if record.state == "COMPLETED"]
    others = [f"{record.id} {record.state} {record.exit}" for record in records if record.state != "COMPLETED"]
    evidence.attach("outcome", f"{accepted}, {len(done)} completed in {took:.1f} s; others: {others or 'none'}")
    measure("slurm.short_jobs_rate", len(done) / took, "jobs/s")
    measure("slurm.short_jobs_completed", 100 * len(done) / SHORT_JOBS, "%")


@pytest.mark.exclusive
@pytest.mark.check("SLU-48")
def test_submit_to_start(slurm: Slurm, evidence: Evidence, measure: Measurements) -> None:
    """On an idle cluster a job starts soon after it was submitted; the median of several is judged."""
    latencies = []
    for _ in range(SAMPLES):
        asked = float(slurm.query("date", "+%s.%N").stdout)
        run = completed(collect(slurm, evidence, [submit(slurm, JobSpec("date +%s.%N", name="latency", mem=16))])[0])
        latencies.append(started(run) - asked)
    evidence.attach("seconds from submission to start", "\n".join(f"{seconds:.3f}" for seconds in latencies))
    assert min(latencies) > 0, f"{run.label}: started {-min(latencies):.3f} s before it was submitted; clocks differ"
    measure("slurm.submit_to_start", median(latencies), "s", samples=len(latencies))


def started(run: Run) -> float:
    """When the job's own clock says that it began."""
    said = run.stdout.strip()
    assert said.replace(".", "").isdecimal(), f"{run.label}: said {said!r}, expected the time"
    return float(said)


# Its job began with the session. Among those that run alone its end has come; before them, all would wait for it.
@pytest.mark.exclusive
@pytest.mark.check("SLU-18")
def test_time_limit(slurm: Slurm, evidence: Evidence) -> None:
    """A job that runs into its time limit of one minute ends as TIMEOUT."""
    job = time_limit_job(slurm)
    run = collect(slurm, evidence, [job], within=180)[0]
    record = run.record
    assert record.state == "TIMEOUT", f"{run.label}: ended as {record.state} ({record.exit}), expected TIMEOUT"
    assert record.elapsed >= 60, f"{run.label}: was ended after {record.elapsed} s, before its limit of 60 s"
