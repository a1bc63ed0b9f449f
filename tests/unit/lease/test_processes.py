"""Processes are found by their mark in every moment of their lives."""

from __future__ import annotations

import os
import subprocess
import sys

from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import cookie

#: Becomes another program under the same number, again and again, and then waits to be ended.
_OTHERS = """
import os, sys
left, code = int(sys.argv[1]), sys.argv[2]
if left:
    os.execv(sys.executable, [sys.executable, "-IS", "-c", code, str(left - 1), code])
print("done", flush=True)
sys.stdin.read()
"""


def test_one_that_becomes_another_program_is_found_meanwhile() -> None:
    """In execve(2) it has neither arguments nor environment; without a second look one look in fifty missed it."""
    mark = cookie("becomes")
    command = [sys.executable, "-IS", "-c", _OTHERS, "100", _OTHERS]
    with subprocess.Popen(
        command, env={"AI_HOW": mark}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        # As long as it has said nothing it becomes others; the looks after that find it at rest.
        found = [[one.pid for one in marked(mark)] for _ in range(150)]
        process.stdin.close()
        assert process.stdout.read() == "done\n"
    assert found == [[process.pid]] * len(found)


def test_one_that_has_ended_is_not_found_though_nobody_asked_for_its_status() -> None:
    mark = cookie("ended")
    with subprocess.Popen(["true"], env={"AI_HOW": mark}) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert marked(mark) == ()
