"""The program that the epilog runs tells of each way to end what it was, and never fails a job's node."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.assets import asset

FILES = Path(str(asset("provisioning/roles/slurm-compute/files")))
PROGRAM = FILES / "usr/lib/ai-how/diagnose.py"


def run(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-IS", str(PROGRAM), *argv], env=environ, capture_output=True, text=True, check=False
    )


def told(*argv: str, **environ: str) -> dict[str, Any]:
    done = run(*argv, **environ)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("code", "cause", "signal"),
    [
        ("0:0", "none", ""),
        ("7:0", "exit-status", ""),
        ("1:0", "exit-status", ""),
        ("126:0", "not-executable", ""),
        ("127:0", "not-found", ""),
        ("0:9", "killed", "SIGKILL"),
        ("137:0", "killed", "SIGKILL"),
        ("0:11", "segmentation-fault", "SIGSEGV"),
        ("139:0", "segmentation-fault", "SIGSEGV"),
        ("0:125", "out-of-memory", ""),
        ("0:6", "aborted", "SIGABRT"),
        ("135:0", "bus-error", "SIGBUS"),
        ("143:0", "terminated", "SIGTERM"),
        ("0:1", "signal", "SIGHUP"),
        ("0:40", "signal", ""),
        ("255:0", "exit-status", ""),
        ("128:0", "exit-status", ""),
    ],
)
def test_each_way_to_end_has_its_cause_and_advice(code: str, cause: str, signal: str) -> None:
    found = told("12", code)
    assert (found["job"], found["cause"], found["signal"]) == (12, cause, signal)
    status, number = map(int, code.split(":"))
    assert found["exit"] == {"status": status, "signal": number}
    assert found["summary"]
    assert found["advice"]
    assert all(len(line) > 20 for line in found["advice"])
    assert "{" not in json.dumps([found["summary"], found["advice"]])


def test_an_epilog_tells_it_the_job() -> None:
    # What slurmd 24.11.5 gave to an epilog, of a job that was killed for its memory.
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_EXIT_CODE2": "0:125", "SLURM_JOB_USER": "hpc", "SLURMD_NODENAME": "n1"}
    found = told(**environ)
    assert (found["job"], found["user"], found["node"], found["cause"]) == (7, "hpc", "n1", "out-of-memory")
    assert "sacct -j 7 " in found["advice"][0]


# What slurmd 24.11.5 logged, in the time zone of the machine, of jobs that were cancelled (1, 2), out of time (4) and
# requeued (5), of a job on two nodes, on the second (8), and of a job of srun's (9). Nodes that fail and jobs that are
# preempted (10, 11) are by slurmstepd's source (req.c).
LOG = """\
[2026-11-27T00:12:08.339] [1.batch] warning: restricted to a subset of cpus
[2026-11-27T00:12:11.469] [1.batch] error: *** JOB 1 ON node01 CANCELLED AT 2026-11-27T00:12:11 ***
[2026-11-27T00:12:11.476] [2.batch] error: *** JOB 2 ON node01 CANCELLED AT 2026-11-27T00:12:11 ***
[2026-11-27T00:12:11.480] [2.0] error: *** STEP 2.0 ON node01 CANCELLED AT 2026-11-27T00:12:11 ***
[2026-11-27T00:12:12.727] [1.batch] stepd_cleanup: done with step
[2026-11-27T00:12:13.215] [1.extern] done with step
[2026-11-27T00:13:40.027] [4.batch] error: *** JOB 4 ON node02 CANCELLED AT 2026-11-27T00:13:40 DUE TO TIME LIMIT ***
[2026-11-27T00:13:50.027] [5.batch] error: *** JOB 5 ON node02 CANCELLED AT 2026-11-27T00:13:50 DUE TO JOB REQUEUE ***
[2026-11-27T00:14:45.028] [8.0] error: Failed to send MESSAGE_TASK_EXIT: Connection refused
[2026-11-27T00:14:45.396] [8.extern] done with step
[2026-11-27T00:15:00.000] [9.0] error: *** STEP 9.0 ON node02 CANCELLED AT 2026-11-27T00:15:00 DUE TO TIME LIMIT ***
[2026-11-27T00:15:10.000] [10.batch] error: *** JOB 10 ON n1 CANCELLED AT 2026-11-27T00:15:10 DUE TO PREEMPTION ***
[2026-11-27T00:15:10.000] [11.batch] error: *** JOB 11 ON n1 CANCELLED AT 2026-11-27T00:15:10 DUE TO NODE FAILURE, SEE \
SLURMCTLD LOG FOR DETAILS ***
"""


def seconds(clock: str) -> str:
    return str(int(time.mktime(time.strptime(f"2026-11-27T{clock}", "%Y-%m-%dT%H:%M:%S"))))


@pytest.mark.parametrize(
    ("job", "start", "end", "cause"),
    [
        (1, "00:12:07", "00:12:11", "cancelled"),
        (2, "00:12:07", "00:12:11", "cancelled"),
        (4, "00:12:14", "00:13:40", "time-limit"),
        (5, "00:13:45", "00:13:50", "requeued"),
        (10, "00:15:05", "00:15:10", "preempted"),
        (11, "00:15:05", "00:15:10", "node-failure"),
        # A step without a script is all that there is of a job of srun's; one that ends early is not the job's end.
        (9, "00:14:00", "00:15:00", "time-limit"),
        (9, "00:14:00", "00:16:00", "none"),
        # What was told of an earlier start is no reason of this one; neither is what was told of other jobs.
        (5, "00:14:00", "00:14:10", "none"),
        (8, "00:14:40", "00:14:42", "none"),
        (100, "00:12:07", "00:12:11", "none"),
    ],
)
def test_who_ends_a_job_from_outside_is_told(tmp_path: Path, job: int, start: str, end: str, cause: str) -> None:
    log = tmp_path / "slurmd.log"
    log.write_text(LOG)
    known = {"SLURM_JOB_START_TIME": seconds(start), "SLURM_JOB_END_TIME": seconds(end)}
    diagnose = runpy.run_path(str(PROGRAM))["diagnosis"]
    found = diagnose(job, "0:0", known, log)
    assert (found["cause"], found["exit"]) == (cause, {"status": 0, "signal": 0})
    assert found["summary"]
    assert any(f"-j {job} " in line for line in found["advice"]) or cause in {"preempted", "node-failure", "requeued"}
    assert "{" not in json.dumps([found["summary"], found["advice"]])
    # A program that ends itself when it is asked to is not what ended the job.
    assert diagnose(job, "7:0", known, log)["cause"] == (cause if cause != "none" else "exit-status")


def test_without_the_log_of_slurmd_the_exit_code_is_what_is_known(tmp_path: Path) -> None:
    known = {"SLURM_JOB_START_TIME": "1", "SLURM_JOB_END_TIME": "2"}
    assert (
        runpy.run_path(str(PROGRAM))["diagnosis"](1, "0:11", known, tmp_path / "none")["cause"] == "segmentation-fault"
    )


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "slurmd.log"
    log.write_text("x" * 2**21 + "\n" + LOG)
    known = {"SLURM_JOB_START_TIME": seconds("00:12:07"), "SLURM_JOB_END_TIME": seconds("00:12:11")}
    program = runpy.run_path(str(PROGRAM))
    assert program["diagnosis"](1, "0:0", known, log)["cause"] == "cancelled"
    log.write_text(LOG + "x" * 2**21)
    assert program["diagnosis"](1, "0:0", known, log)["cause"] == "none"


def test_the_log_is_the_one_that_slurmd_is_told_to_write() -> None:
    template = Path(str(asset("provisioning/templates/slurm.conf.j2"))).read_text()
    assert re.findall("^SlurmdLogFile=(.*)$", template, re.MULTILINE) == [str(runpy.run_path(str(PROGRAM))["LOG"])]
    assert "LogTimeFormat=iso8601_ms" in template


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ((), "invalid literal"),
        (("12",), "not enough values"),
        (("12", "9"), "'9' is no exit code; expected status:signal"),
        (("12", "0:99"), "'0:99': there is no signal 99"),
        (("x", "0:9"), "invalid literal"),
    ],
)
def test_what_is_no_job_or_no_exit_code_is_refused(argv: tuple[str, ...], says: str) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.endswith("; usage: diagnose.py JOB STATUS:SIGNAL\n")


def epilog(folder: Path, program: str) -> int:
    """Run the epilog with its folders in ``folder`` and another program in the place of ours."""
    (folder / "diagnosis").mkdir()
    (folder / "diagnose.py").write_text(program)
    (folder / "diagnose.py").chmod(0o755)
    text = (FILES / "usr/lib/ai-how/epilog").read_text()
    text = text.replace("/usr/lib/ai-how/", f"{folder}/").replace("/var/log/slurm/", f"{folder}/")
    environ = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_USER": "hpc", "SLURMD_NODENAME": "n1"}
    return subprocess.run(["sh", "-c", text], env=environ, check=False).returncode


def test_the_epilog_keeps_the_diagnosis_for_all_to_read(tmp_path: Path) -> None:
    assert epilog(tmp_path, "#!/bin/sh\necho found\n") == 0
    (kept,) = (tmp_path / "diagnosis").iterdir()
    assert (kept.name, kept.read_text(), kept.stat().st_mode & 0o777) == ("7.json", "found\n", 0o644)
    assert " epilog job=7 user=hpc node=n1\n" in (tmp_path / "epilog.log").read_text()


def test_an_epilog_whose_diagnosis_fails_does_not_take_its_node_out(tmp_path: Path) -> None:
    assert epilog(tmp_path, "#!/bin/sh\necho half\necho why >&2\nexit 2\n") == 0
    assert not list((tmp_path / "diagnosis").iterdir())
    assert (tmp_path / "epilog.log").read_text().endswith("why\n")
