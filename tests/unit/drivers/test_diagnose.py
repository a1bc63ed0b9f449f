"""The program that the epilog runs tells of each way to end what it was, and never fails a job's node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
