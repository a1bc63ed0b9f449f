from __future__ import annotations

import pytest

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.services.slurm.options import JobOptions, arguments
from pytest_ai_how.services.slurm.values import (
    ExitCode,
    document,
    exit_code,
    gres_count,
    hosts,
    number,
    states,
    tres,
    when,
)
from pytest_ai_how.shell import Result


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"set": True, "infinite": False, "number": 60}, 60),
        ({"set": False, "infinite": False, "number": 60}, None),
        ({"set": False, "infinite": True, "number": 0}, None),
        (7, 7),
        (None, None),
        ("7", None),
        (float("nan"), None),
    ],
)
def test_number(raw: object, expected: int | None) -> None:
    assert number(raw) == expected


@pytest.mark.parametrize("raw", [0, 4294967294, 4294967295, {"set": True, "infinite": False, "number": 0}, None])
def test_a_time_that_has_not_come_is_none(raw: object) -> None:
    assert when(raw) is None


def test_states_of_old_and_new_parsers() -> None:
    assert states(["IDLE", "DRAIN"]) == states("idle+drain") == ("IDLE", "DRAIN")
    assert states(None) == ()


def test_exit_code_of_old_and_new_parsers() -> None:
    new = {
        "status": ["SIGNALED"],
        "return_code": {"set": False, "number": 0},
        "signal": {"id": {"set": True, "number": 9}},
    }
    assert exit_code(new) == ExitCode(0, 9)
    assert exit_code({"status": "ERROR", "return_code": 7, "signal": {"signal_id": 0}}) == ExitCode(7, 0)
    assert str(exit_code(None)) == "0:0"


def test_tres_from_text_and_from_a_list() -> None:
    assert tres("cpu=2,mem=1G,billing=2,gres/gpu=2") == {"cpu": 2, "mem": 1024, "billing": 2, "gres/gpu": 2}
    assert tres("mem=512K") == {"mem": 0}
    assert tres([{"type": "gres", "name": "gpu", "id": 1001, "count": 3}, {"type": "cpu", "name": "", "count": 1}]) == {
        "gres/gpu": 3,
        "cpu": 1,
    }
    assert tres("") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:sim:2", 2),
        ("gpu:sim:1(IDX:0),gpu:b:3(IDX:0,2)", 4),
        ("gpu", 1),
        ("gpu:2(S:0-1)", 2),
        ("(null)", 0),
        ("", 0),
        ("shard:4", 0),
    ],
)
def test_gres_count(text: str, expected: int) -> None:
    assert gres_count(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node01", ("node01",)),
        ("node[01-03,07],login", ("node01", "node02", "node03", "node07", "login")),
        ("r[1-2]-gpu,x[9-10]", ("r1-gpu", "r2-gpu", "x9", "x10")),
        ("None assigned", ()),
        ("", ()),
    ],
)
def test_hosts(text: str, expected: tuple[str, ...]) -> None:
    assert hosts(text) == expected


def test_an_answer_that_is_no_json_names_machine_and_command() -> None:
    with pytest.raises(AiHowError, match=r"^controller: `scontrol show node` answered 'slurm_load: oops'"):
        document(Result(("scontrol", "show", "node"), 0, "slurm_load: oops\n", node="controller"))


def test_options_become_single_arguments() -> None:
    options: JobOptions = {
        "name": "a b; rm -rf /",
        "cpus": 2,
        "mem": 100,
        "ntasks_per_node": 1,
        "exclusive": True,
        "requeue": False,
        "hold": False,
        "begin": 30,
    }
    assert arguments(options) == (
        "--job-name=a b; rm -rf /",
        "--cpus-per-task=2",
        "--mem=100M",
        "--ntasks-per-node=1",
        "--exclusive",
        "--no-requeue",
        "--begin=now+30",
    )
