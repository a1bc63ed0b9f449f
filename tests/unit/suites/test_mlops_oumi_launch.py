"""The checks of Oumi's launcher go red for the right reason, and what it says is read rightly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_ai_how.launch import JobFailed
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from suites.mlops._request import Request
from suites.mlops.oumi import _launch, _submissions
from suites.mlops.oumi import test_launch as launch
from suites.mlops.oumi._oumi import Oumi

from .oumi_fakes import FOLDER, oumi, state

JOB = _submissions.job_config("ai-how-launched", "oumi train", Request(1, 900, 1), "hpc", FOLDER)
SCRIPT = (
    "#!/bin/bash\n#SBATCH --time=10\n\nexport AI_HOW_LAUNCHED=ai-how-launched\nexport OMP_NUM_THREADS=1\n\n"
    "set -e\noumi train\n"
)
LOG = "[2026-11-27 01:08:12][oumi][INFO] Starting training\n"
SUMS = f"{'a' * 64}  ./model.safetensors\n{'b' * 64}  ./trainer_state.json\n"
SEEN: Mapping[str, str] = {
    "id": "7",
    "job": json.dumps(JOB),
    "first oumi": "RUNNING",
    "first sacct": "RUNNING RUNNING",
    "last oumi": "COMPLETED",
    "last sacct": "COMPLETED COMPLETED",
    "fetched": SUMS,
    "kept": SUMS,
    "logs": LOG,
    "logs status": "0",
    "written": LOG,
    "script": SCRIPT,
    "state": "COMPLETED",
    "tres": json.dumps({"cpu": 1, "mem": 900, "node": 1, "gres/gpu": 1}),
}
# What Oumi 0.9.1 said when it was refused, shortened.
LOGGED = "[2026-11-27 02:50:39,060][oumi][rank0][pid:937][MainThread][ERROR]][slurm_client.py:519] Credential error: "
TRACEBACK = """
Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/oumi/cli/main.py", line 376, in run
    return app()
           ^^^^^
  File "/venv/lib/python3.11/site-packages/oumi/launcher/clients/slurm_client.py", line 520, in _refresh_creds
    raise ClusterUnreachableError(
oumi.core.launcher.exceptions.ClusterUnreachableError: Failed to establish an SSH connection to the Slurm controller
"""
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Host key for controller has changed and you have requested strict checking.
Host key verification failed.
"""
INVALID = """
Error: Config error at 'run': Structured config of type `JobConfig` has missing mandatory value: run
    full_key: run
    object_type=JobConfig
"""
SAID = {
    "key": f"{LOGGED}hpc@controller: Permission denied (publickey).\r\n{TRACEBACK}",
    "host key": f"{LOGGED}{CHANGED}{TRACEBACK}",
    "host": f"{LOGGED}ssh: Could not resolve hostname nowhere: Temporary failure in name resolution\n{TRACEBACK}",
    "configuration": INVALID,
}
ARGV = ("apptainer", "exec", "oumi.sif", "oumi", "launch", "up", "-c", "/mnt/shared/jobs/run/oumi/job-no-script.yaml")


def seen(told: Mapping[str, str], text: str = "") -> tuple[Oumi, Any]:
    """Oumi's jobs, of which the launched one left this; and a Slurm that reads what it wrote."""
    made = oumi()

    def once(name: str, action: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        return told

    object.__setattr__(made, "once", SimpleNamespace(told=once))
    return made, cast("Any", SimpleNamespace(read=lambda path: text or state(_submissions.STEPS)))


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in SEEN.items() if key != name}


Check = Callable[[Oumi, Any, Evidence], None]


@pytest.mark.seen_to_fail("OUM-14", "OUM-15", "OUM-16", "OUM-25")
@pytest.mark.parametrize(
    ("check", "told", "message"),
    [
        (launch.test_submission, SEEN | {"state": "FAILED"}, "ended as FAILED; expected COMPLETED within 10 min"),
        (launch.test_status, SEEN | {"first oumi": "PENDING"}, "first: Oumi says PENDING, sacct RUNNING then RUNNING"),
        (launch.test_status, SEEN | {"last oumi": ""}, "last: `oumi launch status` does not have it; sacct has"),
        (launch.test_status, SEEN | {"last sacct": ""}, "last: the accounting does not have it"),
        (
            launch.test_status,
            SEEN | {"first oumi": "COMPLETED", "first sacct": "COMPLETED COMPLETED"},
            "was COMPLETED on its way, not RUNNING",
        ),
        (launch.test_status, SEEN | {"logs status": "1"}, "`oumi launch logs` ended with 1"),
        (launch.test_status, SEEN | {"logs": "nothing"}, "`oumi launch logs` lacks '.*Starting training'"),
        (launch.test_status, SEEN | {"written": ""}, "wrote no log"),
        (launch.test_results, without("kept"), "ended as COMPLETED; there is nothing to fetch"),
        (launch.test_results, SEEN | {"kept": SUMS.splitlines()[1]}, r"left no model\.safetensors"),
        (
            launch.test_results,
            SEEN | {"fetched": SUMS.replace("a" * 64, "c" * 64)},
            r"\./model\.safetensors is another where it was fetched to, or not there",
        ),
        (launch.test_results, SEEN | {"fetched": SUMS.splitlines()[0]}, r"\./trainer_state\.json is another where"),
        (launch.test_script, SEEN | {"script": SCRIPT.replace("time=10", "time=9")}, "no line '#SBATCH --time=10'"),
        (launch.test_script, SEEN | {"script": SCRIPT.replace("oumi train", "true")}, "no line 'oumi train'"),
        (launch.test_script, SEEN | {"script": SCRIPT[12:]}, "oumi_job.sh begins with '#SBATCH --time=10'"),
        (
            launch.test_script,
            SEEN | {"tres": json.dumps({"cpu": 1, "mem": 972, "node": 1, "gres/gpu": 1})},
            "the accounting has mem=972, the configuration 900",
        ),
        (
            launch.test_script,
            SEEN | {"tres": json.dumps({"cpu": 1, "mem": 900, "node": 1})},
            "the accounting has gres/gpu=0, the configuration 1",
        ),
        (
            launch.test_script,
            SEEN | {"tres": json.dumps({"mem": 900, "node": 1, "gres/gpu": 1})},
            "has 0 CPUs, asked for 1",
        ),
    ],
)
def test_a_launched_job_that_is_another(check: Check, told: Mapping[str, str], message: str) -> None:
    check(*seen(SEEN), Evidence())
    with pytest.raises(AssertionError, match=rf"^controller: job 7 \(ai-how-launched\): .*{message}"):
        check(*seen(told), Evidence())


@pytest.mark.seen_to_fail("OUM-14")
def test_a_launched_job_that_was_cut_short() -> None:
    with pytest.raises(AssertionError, match=r"^controller: job 7 \(ai-how-launched\): took 3 steps, expected 10"):
        launch.test_submission(*seen(SEEN, state(3)), Evidence())


@pytest.mark.seen_to_fail("OUM-17")
def test_a_job_that_was_not_cancelled() -> None:
    told = {"id": "7", "cancel": "x", "status": "0", "state": "CANCELLED"}
    launch.test_cancel(*seen(told), Evidence())
    for change, message in (
        ({"state": "TIMEOUT"}, "is TIMEOUT after it was cancelled"),
        ({"status": "1"}, "`oumi launch"),
    ):
        with pytest.raises(AssertionError, match=rf"^controller: job 7 \(ai-how-long\): {message}"):
            launch.test_cancel(*seen(told | change), Evidence())


@pytest.mark.seen_to_fail("OUM-18")
@pytest.mark.parametrize("wrong", list(SAID))
def test_a_wrong_submission_that_is_taken(wrong: str) -> None:
    none = json.dumps({"folders": ["a"], "jobs": []})
    told = _launch.told({name: Result(ARGV, 1, text, "INFO: fuse2fs not found\n") for name, text in SAID.items()})
    told |= {"before": none, "after": none}
    launch.test_refused(*seen(told), Evidence(), wrong)
    why = r"has no line .*, it ends with .*; expected the cause on a line of its own"
    for change, message in (
        ({"codes": json.dumps(dict.fromkeys(SAID, 0))}, "ended with 0, expected another status"),
        ({f"{wrong} said": TRACEBACK}, why),
        ({f"{wrong} said": f"{TRACEBACK}AttributeError: 'JobConfig' object has no attribute 'run'\n"}, why),
        ({f"{wrong} said": "PermissionError: [Errno 13] Permission denied: '/home/hpc/run'\n"}, why),
        ({"after": json.dumps({"folders": ["a", "b"], "jobs": ["8"]})}, "left something: .*'8'"),
    ):
        with pytest.raises(AssertionError, match=rf"^controller: `oumi launch up` with a wrong {wrong} {message}"):
            launch.test_refused(*seen(told | change), Evidence(), wrong)


def test_each_cause_is_told_from_the_others() -> None:
    assert SAID.keys() == _launch.WRONG.keys()
    assert "run" not in _launch.told({"host": Result(ARGV, 1, "no", "way")})["host said"], (
        "how it was called is no word of it"
    )
    for name, text in SAID.items():
        assert [wrong for wrong, cause in _launch.WRONG.items() if _launch.stated(text, cause)] == [name]
    uncaught = "omegaconf.errors.MissingMandatoryValue: Structured config of type `JobConfig` has missing mandatory "
    assert _launch.stated(f"{TRACEBACK}{uncaught}value: run", _launch.WRONG["configuration"])


def test_the_number_of_a_job_is_read_from_what_up_says() -> None:
    good = Result((), 0, "Job 12 queued on cluster hpc@controller.\nRunning job 12 in detached mode.\n", node="node02")
    assert _launch.submitted(good) == "12"
    for bad in (Result((), 1, "", "Permission denied\n", node="node02"), Result((), 0, "nothing", node="node02")):
        with pytest.raises(JobFailed, match="^node02: `oumi launch up` ended with"):
            _launch.submitted(bad)


def test_a_job_without_gpus_asks_for_none() -> None:
    plain = _submissions.job_config("x", "true", Request(1, 900, 0), "hpc", FOLDER)
    assert plain["resources"] == {"cloud": "slurm", "cpus": "1", "memory": "900M"}
    assert JOB["resources"] == {"cloud": "slurm", "cpus": "1", "memory": "900M", "accelerators": ":1"}


def test_the_state_of_a_job_is_that_in_its_own_row() -> None:
    table = "╭── Cluster: hpc@controller ──╮\n│ Job   Status    │\n│ 7     COMPLETED │\n│ 17    RUNNING   │\n╰──╯"
    assert [_launch.state_in(table, id) for id in ("7", "17", "1")] == ["COMPLETED", "RUNNING", ""]
