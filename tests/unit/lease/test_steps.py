"""Steps: done once for all workers, remembered, undone when they were not finished; and the use of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import StepBlocked, StepFailed, TransportError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.state import cluster_state
from tests.unit.lease.widgets import CLAIM, NAME, kill, make, python, said

# ensuring


def test_a_step_is_done_once(lease: Lease) -> None:
    assert lease.ensure("slurm", "f", lambda: {"a": "1"}) == {"a": "1"}
    assert lease.ensure("slurm", "f", lambda: pytest.fail("was run again")) == {"a": "1"}
    assert lease.record.steps["slurm"].state == "done"


def test_a_changed_fingerprint_undoes_and_runs_again(lease: Lease, widgets: Path) -> None:
    lease.ensure("machines", "f1", lambda: make(lease, widgets, "old"))
    lease.ensure("other", "f1", lambda: make(lease, widgets, "other", "other"))
    before = lease.stamp("machines")
    assert lease.ensure("machines", "f2", lambda: make(lease, widgets, "new")) == {"made": "new"}
    assert widgets.read_text() == "other\nnew\n"
    assert before != lease.stamp("machines") != ""


def test_a_failed_step_is_remembered_with_its_cause(lease: Lease) -> None:
    def fail() -> dict[str, str]:
        raise TransportError("node02", "no route", cure="look at the bridge")

    with pytest.raises(StepFailed, match="^node02: step 'slurm' failed: no route\n  do: look at the bridge$"):
        lease.ensure("slurm", "f", fail)
    worker = Lease.join(NAME, "run1")
    with pytest.raises(StepBlocked, match="^blocked: step 'slurm' failed: node02: no route$"):
        worker.ensure("slurm", "f", lambda: pytest.fail("was tried again"))
    lease.release("always")
    again = Lease.acquire(NAME, "run2", CLAIM)
    assert again.ensure("slurm", "f", lambda: {"now": "well"}) == {"now": "well"}
    again.release()


def test_an_unexpected_error_fails_the_step_too(lease: Lease) -> None:
    with pytest.raises(StepFailed, match="^localhost: step 'slurm' failed: ZeroDivisionError: integer division"):
        lease.ensure("slurm", "f", lambda: {"x": str(1 // 0)})
    with pytest.raises(StepBlocked, match="ZeroDivisionError"):
        lease.ensure("slurm", "f", dict)


def test_an_interrupt_is_no_failure_and_its_leftovers_are_undone_first(lease: Lease, widgets: Path) -> None:
    def interrupted() -> dict[str, str]:
        make(lease, widgets, "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lease.ensure("machines", "f", interrupted)
    assert widgets.read_text() == "half\n"
    lease.ensure("machines", "f", lambda: make(lease, widgets, "whole"))
    assert widgets.read_text() == "whole\n"


def test_a_hostile_step_name_is_refused(lease: Lease) -> None:
    with pytest.raises(ValueError, match="not a step's name"):
        lease.ensure("../../x", "f", dict)


RACER = """if True:
    import sys, time
    from pathlib import Path
    from pytest_ai_how.lease.lease import Lease
    lease = Lease.join("aihowlease", "run1")
    log = Path(sys.argv[1])
    def action():
        with log.open("a") as file:
            file.write("ran\\n")
        time.sleep(0.3)
        return {"by": sys.argv[2]}
    print("ready", flush=True)
    sys.stdin.readline()
    print(lease.ensure("slurm", "f", action)["by"], flush=True)
"""


def test_of_racing_processes_exactly_one_runs_the_step(lease: Lease, tmp_path: Path) -> None:
    log = tmp_path / "log"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(log), str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    for racer in racers:
        said(racer, "ready")
    outputs = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        outputs.append(racer.communicate(timeout=20)[0].strip())
        assert racer.returncode == 0
    assert log.read_text() == "ran\n"
    assert len(set(outputs)) == 1
    assert outputs[0] in {"0", "1", "2"}


def test_when_the_runner_is_killed_the_next_undoes_and_runs(lease: Lease, widgets: Path) -> None:
    runner = python(
        """if True:
        import sys, time
        from pytest_ai_how.lease.lease import Lease
        lease = Lease.join("aihowlease", "run1")
        def action():
            lease.journal.of("machines").intend("widget", name="half")
            open(sys.argv[1], "a").write("half\\n")
            print("half", flush=True)
            time.sleep(60)
        lease.ensure("machines", "f", action)
        """,
        str(widgets),
    )
    said(runner, "half")
    kill(runner)
    assert lease.ensure("machines", "f", lambda: make(lease, widgets, "whole")) == {"made": "whole"}
    assert widgets.read_text() == "whole\n"
    lease.release()
    assert widgets.read_text() == ""


# using

USER = """if True:
    import sys
    from pathlib import Path
    from pytest_ai_how.lease.lease import Lease
    lease = Lease.join("aihowlease", "run1")
    print("ready", flush=True)
    with lease.using(exclusive=sys.argv[1] == "alone"):
        print("in", flush=True)
        sys.stdin.readline()
"""


def user(mode: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", USER, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.set_blocking(process.stdout.fileno(), False)
    return process


def is_in(process: subprocess.Popen[bytes], within: float = 5.0) -> bool:
    assert process.stdout is not None
    end = time.monotonic() + within
    while time.monotonic() < end:
        if process.stdout.read(16) == b"in\n":
            return True
        time.sleep(0.01)
    return False


def leave(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"\n", timeout=10)


def test_sharers_share_and_one_who_is_alone_is_not_overtaken(lease: Lease) -> None:
    first, second = user("shared"), user("shared")
    assert is_in(first)
    assert is_in(second)
    alone = user("alone")
    # What blocks it is seen in the kernel's own list; only then does the late sharer come.
    wait_for(lambda: f" {alone.pid} " in Path("/proc/locks").read_text(), within=5, what="waiting")
    late = user("shared")
    assert not is_in(alone, 0.2)
    assert not is_in(late, 0.2)
    leave(first)
    leave(second)
    assert is_in(alone)
    assert not is_in(late, 0.2)
    leave(alone)
    assert is_in(late)
    leave(late)


def test_a_killed_user_lets_go(lease: Lease) -> None:
    alone = user("alone")
    assert is_in(alone)
    alone.kill()
    alone.communicate(timeout=10)
    with lease.using(exclusive=True):
        assert cluster_state(NAME) == lease.state
