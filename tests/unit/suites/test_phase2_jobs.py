"""The checks of what goes with jobs, of prologs, images and journals go red for the right reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.services.slurm.facts import CONFIG
from pytest_ai_how.shell import Result
from suites.phase2 import _journal as journals
from suites.phase2 import test_faults, test_images, test_jobs, test_journals
from suites.phase2._spank import STACK
from tests.fakes import fake_cluster
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm, new_measure, nodes_json

from .phase2_fakes import LINE, STACK_TOLD, data, facts

# SLU-41

ALL = (*test_jobs.ENDINGS, test_jobs.OUT_OF_MEMORY, test_jobs.CANCELLED)
NUMBERS = {one.name: id for id, one in enumerate(ALL, 1)}


def told(ending: test_jobs.Ending, **changes: object) -> str:
    status, signal = ending.exit
    right = {"cause": ending.cause, "summary": "s", "advice": ["a"], "exit": {"status": status, "signal": signal}}
    return json.dumps({"job": NUMBERS[ending.name], **right, **changes})


def diagnosed(name: str = "", answer: str | Result = "", begun: str | Result = "", **changes: object) -> Slurm:
    """A Slurm whose jobs end as they are to, and what their node has on them; on the one called ``name``, otherwise."""
    jobs = [FakeJob(one.name, NUMBERS[one.name]) for one in ALL[:-1]]
    cancelled = test_jobs.CANCELLED.name
    jobs.append(FakeJob(cancelled, NUMBERS[cancelled], state="CANCELLED", seen=("PENDING", "RUNNING", "CANCELLED")))
    compute: Rules = [("test -s", Result((), 1) if isinstance(answer, Result) else "")]
    for one in ALL:
        path = f"{test_jobs.DIAGNOSES}/{NUMBERS[one.name]}.json"
        wrong = answer if isinstance(answer, str) and answer else told(one, **changes)
        compute = [*compute, (("cat", path), wrong if one.name == name else told(one))]
    return fake_slurm(jobs, compute=compute, first=[("test -s", begun)])


@pytest.mark.seen_to_fail("SLU-41")
def test_endings_that_are_told_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(slurm: Slurm) -> None:
        test_jobs.test_failures_are_diagnosed(slurm, Evidence())

    check(diagnosed())
    with pytest.raises(AssertionError, match=r"^job 3 \(diagnose-kill\) on node01: it is told to have ended by 'none'"):
        check(diagnosed("diagnose-kill", cause="none"))
    with pytest.raises(
        AssertionError, match=r"^job 4 \(diagnose-137\) on node01: its diagnosis has no advice; expected"
    ):
        check(diagnosed("diagnose-137", advice=[]))
    with pytest.raises(
        AssertionError, match=r"^job 5 \(diagnose-139\).*: its diagnosis is of job 99 with status and sig"
    ):
        check(diagnosed("diagnose-139", job=99))
    with pytest.raises(
        AssertionError, match=r"^job 2 \(diagnose-7\).*with status and signal \(0, 0\); expected 2 with \(7"
    ):
        check(diagnosed("diagnose-7", exit={"status": 0, "signal": 0}))
    with pytest.raises(
        AssertionError, match=r"^node01: /var/log/slurm/diagnosis/1\.json is no JSON: .* begins '\{\"job"
    ):
        check(diagnosed("diagnose-0", '{"job'))
    with pytest.raises(
        AssertionError, match=r"^node01: /var/log/slurm/diagnosis/1\.json holds list, expected an object"
    ):
        check(diagnosed("diagnose-0", "[]"))
    monkeypatch.setattr(test_jobs, "APPEARS_WITHIN", 0.1)
    with pytest.raises(
        AssertionError, match=r"(?s)^node01: not in possession of \S+/1\.json within 0\.1 s.*epilog\.log"
    ):
        check(diagnosed(answer=Result((), 1)))


@pytest.mark.seen_to_fail("SLU-41")
def test_a_job_out_of_memory_that_is_told_to_have_been_killed() -> None:
    test_jobs.test_too_little_memory_is_diagnosed(diagnosed(), Evidence())
    killed = diagnosed("diagnose-oom", cause="killed")
    with pytest.raises(
        AssertionError, match=r"^job 6 \(diagnose-oom\) on node01: it is told to have ended by 'killed', e"
    ):
        test_jobs.test_too_little_memory_is_diagnosed(killed, Evidence())


@pytest.mark.seen_to_fail("SLU-41")
def test_a_cancelled_job_that_is_told_to_be_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(slurm: Slurm) -> None:
        test_jobs.test_a_cancelled_job_is_diagnosed(slurm, Evidence())

    check(diagnosed())
    with pytest.raises(
        AssertionError, match=r"^job 7 \(diagnose-cancel\) on node01: it is told to have ended by 'none', expected 'can"
    ):
        check(diagnosed("diagnose-cancel", cause="none"))
    monkeypatch.setattr(test_jobs, "APPEARS_WITHIN", 0.1)
    with pytest.raises(AssertionError, match=r"(?s)^job 7 \(diagnose-cancel\): not running: its script wrote nothing"):
        check(diagnosed(begun=Result((), 1)))


# SLU-43

STEP_LOG = "+0000\n[2026-11-26T21:18:16.280] [77.0] done with step\n"


def stack_slurm(srun: str | Result = "77\n", log: str = STEP_LOG) -> Slurm:
    compute: Rules = [(re.compile("date [+]%z"), log)]
    return fake_slurm(first=[("srun", srun)], compute=compute)


@pytest.mark.seen_to_fail("SLU-43")
def test_stacks_that_slurm_does_not_read() -> None:
    def check(slurm: Slurm, **changes: Mapping[Any, Any]) -> None:
        test_jobs.test_plugin_stack(slurm, facts(**changes), Evidence())

    check(stack_slurm())
    ini = STACK_TOLD.replace("optional spank_pbs.so", "[plugins]\nrequired = spank_pbs.so")
    with pytest.raises(
        AssertionError, match=r"^node02: /etc/slurm/plugstack\.conf\.d/pbs\.conf:2: '\[plugins\]' is no line of a stack"
    ):
        check(stack_slurm(), node02={STACK: ini})
    key = STACK_TOLD.replace("optional spank_pbs.so", "required = spank_pbs.so")
    with pytest.raises(AssertionError, match=r"^controller: \S+:2: 'required = spank_pbs\.so' is no line .* not INI"):
        check(stack_slurm(), controller={STACK: key})
    lost = "srun: error: spank: /etc/slurm/plugstack.conf.d/x.conf:2: Failed to load plugin x.so. Aborting.\n"
    with pytest.raises(
        AssertionError, match=r"^node01: srun ended with 1: srun: error: spank: .* Failed to load plugin"
    ):
        check(stack_slurm(Result((), 1, stderr=lost)))
    with pytest.raises(AssertionError, match=r"^node01: srun wrote 'srun: error: spank: .*; expected the plug-ins to"):
        check(stack_slurm(Result((), 0, "77\n", lost)))
    race = (
        "common_file_write_uints: unable to open '/sys/fs/cgroup/freezer/cgroup.procs' for writing: Permission denied"
    )
    check(stack_slurm(log=f"{STEP_LOG}[2026-11-26T21:18:16.281] [77.extern] error: {race}\n"))
    step = STEP_LOG + "[2026-11-26T21:18:16.280] [77.0] error: spank: x.so: Dlopen of plugin file failed\n"
    with pytest.raises(
        AssertionError, match=r"^node01: /var/log/slurm/slurmd\.log: \[77\.0\] error: spank: x\.so: Dlopen"
    ):
        check(stack_slurm(log=step))
    with pytest.raises(AssertionError, match=r"^node01: \S+ has no line of job 77; nothing is known of its plug-ins"):
        check(stack_slurm(log="+0000\n"))


def test_no_stack_at_all_is_none_that_is_wrong() -> None:
    test_jobs.test_plugin_stack(stack_slurm(), facts({STACK: ""}), Evidence())


# SLU-42

PROLOG = "/usr/lib/ai-how/prolog"


def drains(*states: str, job: FakeJob, reason: str = "Prolog error") -> Slurm:
    looks = [
        nodes_json(node01={"state": state.split("+"), "reason": reason if "+" in state else ""}) for state in states
    ]
    compute: Rules = [("stat", "755\n")]
    slurm = fake_slurm([job], nodes=looks, first=[("scontrol update", "")], compute=compute)
    slurm.cluster["node01"].transport.files[PROLOG] = b"#!/bin/sh\n"  # type: ignore[attr-defined]  # a FakeTransport
    return slurm


@pytest.mark.seen_to_fail("SLU-42")
def test_a_failing_prolog_that_does_not_drain_or_loses_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(slurm: Slurm, **changes: Mapping[Any, Any]) -> None:
        try:
            test_faults.test_failing_prolog(slurm, facts(**changes), Evidence())
        finally:
            node = slurm.cluster["node01"].transport
            assert node.files[PROLOG] == b"#!/bin/sh\n"  # type: ignore[attr-defined]  # what was there is there again

    def job(stdout: str = "1\n", restarts: int = 1, seen: tuple[str, ...] = ("PENDING",)) -> FakeJob:
        return FakeJob("prolog", 9, stdout, seen=seen, restarts=restarts)

    away = "IDLE+DRAIN"
    check(drains("IDLE", away, away, "IDLE", job=job()))
    with pytest.raises(
        AssertionError, match=r"^node01: drained for 'Kill task failed'; expected a reason that names the"
    ):
        check(drains(away, away, "IDLE", job=job(), reason="Kill task failed"))
    with pytest.raises(AssertionError, match=r"^job 9: waits, but was not queued again; expected one restart"):
        check(drains(away, away, "IDLE", job=job(restarts=0)))
    with pytest.raises(AssertionError, match=r"^job 9: ended as FAILED, reason"):
        check(drains(away, away, "IDLE", job=job(seen=("FAILED",))))
    with pytest.raises(AssertionError, match=r"^job 9 \(prolog\) on node01: was restarted 0 times, expected once"):
        check(drains(away, away, "IDLE", job=job("0\n")))
    bare = data("scontrol-config.txt").replace(f"Prolog[0]               = {PROLOG}", "Prolog = (null)")
    with pytest.raises(AssertionError, match=r"^controller: no Prolog is configured; expected one"):
        check(drains("IDLE", job=job()), controller={CONFIG: bare})
    monkeypatch.setattr(test_faults, "DRAINS_WITHIN", 0.2)
    with pytest.raises(AssertionError, match=r"(?s)^node01: not drained within 0\.2 s; last seen: IDLE, reason ''"):
        check(drains("IDLE", job=job()))


# SLU-51

START = 100.0
ERROR = "slurmctld: error: Nodes node01 not responding"


def line(at: float, text: str, unit: str = "slurmctld") -> str:
    entry = {"__REALTIME_TIMESTAMP": str(int(at * 1e6)), "_SYSTEMD_UNIT": f"{unit}.service", "MESSAGE": text}
    return json.dumps(entry)


def scan(*lines: str, step: str = "", broken: tuple[tuple[float, float, str], ...] = (), last: str = LINE) -> None:
    log = journals.steps("/var/log/slurm/slurmd.log")
    told = facts(
        {journals.journal(START): "", log: f"+0000\n{step}", journals.LAST: last},
        controller={journals.journal(START): "\n".join(lines)},
    )
    test_journals.test_logs_have_no_errors(fake_slurm(), told, Evidence(), START, broken)


@pytest.mark.seen_to_fail("SLU-51")
def test_errors_in_the_window_of_the_run() -> None:
    scan(line(101, "slurmctld: Running as primary controller"), line(99, ERROR))
    scan(line(150, ERROR), broken=((140.0, 160.0, "test_it.py::test_breaks"),))
    with pytest.raises(
        AssertionError, match=r"^controller: slurmctld wrote 'slurmctld: error: Nodes node01 not responding"
    ):
        scan(line(150, ERROR))
    with pytest.raises(AssertionError, match=r"^controller: slurmctld wrote .* \(and 0 more"):
        scan(line(161, ERROR), broken=((140.0, 160.0, "test_it.py::test_breaks"),))
    with pytest.raises(AssertionError, match=r"^controller: slurmdbd wrote 'slurmdbd: fatal: Unable to initialize"):
        scan(line(150, "slurmdbd: fatal: Unable to initialize", "slurmdbd"))
    with pytest.raises(AssertionError, match=r"^controller: mariadb wrote '0 \[ERROR\] InnoDB: Unable to lock"):
        scan(line(150, "0 [ERROR] InnoDB: Unable to lock ./ibdata1", "mariadb"))
    with pytest.raises(AssertionError, match=r"^node01: slurmstepd wrote '\[12\.batch\] error: unlink"):
        scan(step="[1970-01-01T00:02:30.000] [12.batch] error: unlink(x): failed\n")
    with pytest.raises(AssertionError, match=r"^controller: its journal holds no line of a daemon since it booted"):
        scan(last="")


def test_lines_that_are_harmless_are_so_for_one_unit_and_a_reason() -> None:
    known = journals.known_harmless()
    assert known
    assert all(len(one.reason) > 20 for one in known)
    first = "slurmctld: error: Could not open node state file /var/lib/slurm/node_state: No such file or directory"
    scan(line(101, first))
    with pytest.raises(AssertionError, match="^controller: slurmdbd wrote"):
        scan(line(101, first, "slurmdbd"))
    # A site that lost its state is not excused by a new cluster that has none yet.
    with pytest.raises(AssertionError, match="^controller: slurmctld wrote .*Permission denied"):
        scan(line(101, first.replace("No such file or directory", "Permission denied")))


@pytest.mark.seen_to_fail("SLU-51")
def test_a_slurmd_that_asks_before_the_controller_has_started() -> None:
    early = "slurmd: error: Unable to register: Unable to contact slurm controller (connect failure)"
    started = "slurmctld: Running as primary controller"
    scan(line(105, early, "slurmd"), line(109, early, "slurmd"), line(110, started))
    wrote = "^controller: slurmd wrote 'slurmd: error: Unable to register"
    for lines in ([], [line(110, started)], [line(110, started), line(118, started)]):
        with pytest.raises(AssertionError, match=wrote):
            scan(line(115, early, "slurmd"), *lines)


def test_lines_of_machines_in_other_zones_and_that_are_no_text() -> None:
    (found,) = journals.parse_steps("-0530\n[1970-01-01T00:00:00.000] [1.0] x\nno line of a log\n")
    assert found.time == 5.5 * 3600
    with pytest.raises(ValueError, match="expected LogTimeFormat=iso8601_ms"):
        journals.parse_steps("+0000\nNov 26 21:18:16 [1.0] error: x\n")
    assert journals.step_log({"SlurmdLogFile": "/var/log/%h-%n.log"}, "node01") == "/var/log/node01-node01.log"
    with pytest.raises(AssertionError, match="^node01: SlurmdLogFile is not set"):
        journals.step_log({"SlurmdLogFile": ""}, "node01")
    (binary,) = journals.parse_journal('{"__REALTIME_TIMESTAMP":"1","UNIT":"slurmd.service","MESSAGE":[102,255]}')
    assert (binary.unit, binary.text) == ("slurmd", "f\ufffd")


# CON-03

PULLED = {
    "status": 0,
    "seconds": 0.5,
    "said": "INFO: Creating SIF file...",
    "blobs": 1,
    "word": "pulled-r1",
    "errors": "",
}


def pull(**changes: object) -> None:
    cluster = fake_cluster({"*": [("python3 -c", json.dumps(PULLED | changes))]})
    test_images.test_pull_and_convert(Apptainer(cluster), Evidence(), new_measure(), load_limits("local"), "r1")


@pytest.mark.seen_to_fail("CON-03")
def test_images_that_are_not_pulled() -> None:
    pull()
    fatal = {"status": 255, "said": "FATAL:   While pulling image: no space left on device", "word": None}
    with pytest.raises(AssertionError, match=r"^node01: `apptainer pull` ended with 255: FATAL: .* no space left"):
        pull(**fatal)
    with pytest.raises(
        AssertionError, match=r"^node01: `apptainer pull` never asked the registry for the image's files"
    ):
        pull(blobs=0)
    with pytest.raises(
        AssertionError, match=r"^node01: the image that was pulled says '', expected 'pulled-r1': exec format"
    ):
        pull(word="", errors="exec format error")
    with pytest.raises(LimitExceeded, match=r"^node01: container\.pull is 181 s, expected at most 180 s"):
        pull(seconds=181)
