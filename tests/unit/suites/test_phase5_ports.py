"""The checks of MPI's ports go red for the right reason, and so does the program that reaches them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.facts import Readings
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm.facts import CONFIG
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from suites.phase5 import test_mpi_ports as checks
from tests.fakes import WRITES
from tests.unit.suites.phase5_fakes import slurm
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm

SETTINGS = "MpiParams               = ports=12000-12499\nSrunPortRange           = 12500-12999\nSchedulerType = x"


# reaching the range


def told(node: str, *failed: Mapping[str, Any], tried: int = 10) -> str:
    return json.dumps({"node": node, "tried": tried, "failed": failed}) + "\n"


def blocked(port: int, error: str = "no answer within 2 s", origin: str = "node01") -> dict[str, Any]:
    return {"from": origin, "to": "node02", "port": port, "error": error}


def reach(answer: Any, evidence: Evidence, settings: str = SETTINGS) -> None:
    facts = Facts(Readings.told({"node01": {CONFIG: SETTINGS}, "node02": {CONFIG: settings}}), evidence)
    checks.test_range_is_reachable(slurm(answer)[0], facts, evidence, "r1")


@pytest.mark.seen_to_fail("SLU-24")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (told("node01", blocked(12111), blocked(12999)) + told("node02"),
         r"node01: port 12111 of node02 is not reached: no answer within 2 s \(2 of 10 there\); expected all of 12000"),
        (told("node01") + told("node02", blocked(12000, "Address already in use", "")),
         "node02: port 12000 can't be listened on: Address already in use"),
        (told("node01"), "node02: tried no connections, expected 10 to each of 1 nodes"),
        (told("node01", tried=0) + told("node02"), "node01: tried 0 connections"),
        (Result((), 1, "", "OSError: x\nsrun: error: node02: task 1: Exited\n"), "node02: ports.py ended with 1: OSEr"),
    ],
)  # fmt: skip
def test_ports_that_are_not_reached(answer: Any, message: str, evidence: Evidence) -> None:
    reach(told("node01") + told("node02"), evidence)
    with pytest.raises(AssertionError, match=f"^{message}"):
        reach(answer, evidence)


@pytest.mark.seen_to_fail("SLU-24")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            SETTINGS.replace("12499", "13000"),
            "node02: MpiParams is ports=12000-13000, expected ports in 12000-12999; do",
        ),
        ("SchedulerType = x", "node02: MpiParams is unset, expected"),
        (SETTINGS.replace("ports=12000-12499", "(null)"), "node02: MpiParams is unset, expected"),
        (SETTINGS.replace("12500-12999", "0-0"), "node02: SrunPortRange is 0-0, expected"),
    ],
)
def test_another_range(settings: str, message: str, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=f"^{message}"):
        reach(told("node01") + told("node02"), evidence, settings)


# what a job listens on (ss of iproute2 6.15)

BEFORE = 'tcp LISTEN 0 4096 0.0.0.0:6818 0.0.0.0:* users:(("slurmd",pid=51,fd=9))\ntcp LISTEN 0 128 [::]:22 [::]:*\n'
NODE01 = BEFORE.replace('("slurmd",pid=51,fd=9)', '("slurmstepd",pid=1090,fd=9),("slurmd",pid=51,fd=9)') + (
    'tcp LISTEN 0 4096 127.0.0.1:56321 0.0.0.0:* users:(("slurmstepd",pid=1096,fd=21))\n'
    'tcp LISTEN 0 4096 0.0.0.0:12716 0.0.0.0:* users:(("python3",pid=1115,fd=16),("slurmstepd",pid=1096,fd=16))\n'
    'tcp LISTEN 0 4096 0.0.0.0:12500 0.0.0.0:* users:(("python3",pid=1115,fd=13))\n'
)
NODE02 = BEFORE + 'tcp LISTEN 0 4096 0.0.0.0:12501 0.0.0.0:* users:(("python3",pid=991,fd=13))\n'
HELD01 = (
    '0 80 10.97.0.11:22 10.97.0.1:46552 users:(("sshd-session",pid=478,fd=7))\n'
    '262209 0 10.97.0.11:50885 10.97.0.12:12501 users:(("python3",pid=1115,fd=15))\n'
)
HELD02 = '0 32 10.97.0.12:12501 10.97.0.11:50885 users:(("python3",pid=991,fd=17))\n'
RANKS = '{"rank": 0, "node": "node01", "pid": 1115}{"rank": 1, "node": "node02", "pid": 991}'


def judge(
    evidence: Evidence, *, node01: str = NODE01, node02: str = NODE02, held01: str = HELD01, held02: str = HELD02,
    ranks: Any = RANKS, whole: int = 17, **job: Any,
) -> None:  # fmt: skip
    said = json.dumps([{"rank": n, "node": f"node0{n + 1}", "whole": whole} for n in range(2)])
    exchange = FakeJob("exchange", 7, said, nodes="node[01-02]", **{"seen": ("RUNNING",), **job})

    def written(argv: tuple[str, ...]) -> bool:
        return argv[0] == "cat" and argv[-1].endswith("/rank-1.json")

    found = fake_slurm([exchange], first=[(written, ranks), WRITES, ("rm -rf", "")])
    for name, seen, held in (("node01", node01, held01), ("node02", node02, held02)):
        rules: Rules = [("ss -H -l", [BEFORE, seen]), ("ss", held)]
        found.cluster[name].transport = FakeTransport(name, rules)
    checks.test_jobs_keep_to_the_range(found, evidence, "r1")


def test_a_job_that_keeps_to_the_range(evidence: Evidence) -> None:
    judge(evidence)


@pytest.mark.seen_to_fail("SLU-24")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node01": NODE01.replace("0.0.0.0:12500", "0.0.0.0:35100")},
         "node01: tcp 0.0.0.0:35100 of python3 listens for the job outside of 12000-12999; do: set SrunPortRange"),
        ({"node01": NODE01.replace("12716", "13166")}, "node01: tcp 0.0.0.0:13166 of python3, slurmstepd listens"),
        ({"node02": NODE02.replace("pid=991", "pid=990")},
         "node02: its rank, process 991, listens on no port that others reach; expected one of 12000-12999"),
        ({"held01": HELD01.replace("12501", "40000"), "held02": HELD02.replace("12501", "40000")},
         "node01: no connection of its rank uses a port of 12000-12999; the ranks have 10.97.0.11:50885 to 10.97.0."),
        ({"held01": "", "held02": ""}, "node01: no connection of its rank uses .*; the ranks have none"),
        ({"whole": 0}, r"node01: rank 0 of job 7 \(exchange\) on node01,node02 got no message whole"),
        ({"ranks": Result((), 1), "seen": ("FAILED",), "state": "FAILED"},
         r"node01: job 7 \(exchange\) ended as FAILED before data had flowed"),
        ({"state": "FAILED", "code": 1}, r"job 7 \(exchange\) on node01,node02: ended as FAILED with exit 1:0"),
    ],
)  # fmt: skip
def test_a_job_that_does_not(change: dict[str, Any], message: str, evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=f"^{message}"):
        judge(evidence, **change)


# the program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run(folder: Path, ports: Sequence[int], *names: str) -> list[dict[str, Any]]:
    addresses = json.dumps({name: f"127.0.0.{n}" for n, name in enumerate(("a", "b", "c"), 1)})
    program = Path(checks.__file__).parent / "payloads/ports.py"
    argv = [sys.executable, str(program), str(folder), addresses, ",".join(map(str, ports))]
    started = [subprocess.Popen([*argv, name], stdout=subprocess.PIPE, text=True) for name in names]
    return [json.loads(one.communicate(timeout=60)[0]) for one in started]


def test_ports_are_reached_and_what_holds_one_is_told(tmp_path: Path) -> None:
    port = free_port()
    assert run(tmp_path, [port], "a", "b", "c") == [{"node": name, "tried": 2, "failed": []} for name in "abc"]
    for path in tmp_path.iterdir():
        path.unlink()
    with socket.create_server(("127.0.0.3", port)) as other:
        other.settimeout(0)
        found = run(tmp_path, [port], "a", "b", "c")
    assert found[2]["failed"] == [{"from": "", "to": "c", "port": port, "error": "Address already in use"}]
    assert found[0]["failed"] == [{"from": "a", "to": "c", "port": port, "error": "no answer within 2 s"}]


@pytest.mark.parametrize("taken", [0, -1])
def test_a_port_that_is_in_use_has_a_neighbour_in_the_range_to_stand_in(tmp_path: Path, taken: int) -> None:
    """srun and PMIx take ports of the range for themselves, at random: no fault of a firewall."""
    first = free_port()
    ports = [first, first + 40]
    with socket.create_server(("127.0.0.3", ports[taken])):
        found = run(tmp_path, ports, "a", "b", "c")
    assert found == [{"node": name, "tried": 4, "failed": []} for name in "abc"]
    told = json.loads((tmp_path / "listening-c").read_text())
    assert told[1 + taken] == ports[1 + taken]
    assert told[taken] != ports[taken]
    assert first <= told[taken] <= first + 40
