"""However a run ends: nothing of its cluster is left, or the next run, or reap, sees to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket

import pytest

from tests.integration.conftest import BRIDGE, NAME, Life, kill

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]

GOOD = """
def test_good(cluster):
    assert cluster["node01"].run("uname", "-n").stdout.strip() == "node01"
"""
LONG = """
def test_long(cluster):
    told("running")
    forever()
"""
FAULT = """
@pytest.mark.disruptive
def test_fault(cluster):
    cluster["node01"].sh("mv /usr/bin/uname /usr/bin/uname.away")
    told("running")
    forever()
"""
USED_AGAIN = f"cluster {NAME}, found up and used again"


# runs that end by themselves


def test_success(life: Life) -> None:
    life.tests("def test_good(slurm):\n    assert list(slurm.nodes()) == ['node01']\n")
    ended = life.run()
    assert ended.status == 0, ended
    assert life.verdicts() == {"test_good": "passed"}
    assert "making 2 machines" in ended.errors
    assert life.left == []


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("def test_bad(cluster):\n    assert False\n" + GOOD, {"test_bad": "failed", "test_good": "blocked"}),
        (
            "@pytest.fixture\ndef it(cluster):\n    raise OSError('no')\ndef test_bad(it):\n    pass\n" + GOOD,
            {"test_bad": "broken", "test_good": "blocked"},
        ),
    ],
    ids=["failing test", "error in a fixture"],
)
def test_the_first_failure_ends_the_run(life: Life, text: str, verdicts: dict[str, str]) -> None:
    life.tests(text)
    assert life.run("-x").status in (1, 2)
    assert life.verdicts() == verdicts
    assert life.left == []


def test_an_error_in_the_tear_down_of_a_fixture(life: Life) -> None:
    life.tests(
        """
@pytest.fixture(scope="session", autouse=True)
def torn(cluster):
    yield
    raise OSError("in tear-down")
def test_bad(cluster):
    assert False
"""
        + GOOD
    )
    ended = life.run()
    assert ended.status == 1, ended
    assert life.verdicts() == {"test_bad": "failed", "test_good": "broken"}
    assert life.left == []


# runs that are ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_signal_while_a_test_runs(life: Life, number: signal.Signals, workers: str) -> None:
    life.tests(LONG)
    process = life.pytest(workers)
    life.note("running", process)
    ended = life.end(process, number)
    assert ended.status == 2, ended
    assert life.report()["verdict"] == "undecided"
    assert f"interrupted ({number.name})" in " ".join(life.report()["run"]["troubles"])
    assert life.left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_while_machines_are_made(life: Life, number: signal.Signals) -> None:
    life.tests(GOOD)
    process = life.pytest()
    life.made()
    ended = life.end(process, number)
    assert ended.status == 2, ended
    assert life.left == []


def test_a_killed_worker(life: Life) -> None:
    life.tests(LONG + "@pytest.mark.parametrize('n', range(4))\ndef test_good(cluster, n):\n    time.sleep(0.3)\n")
    process = life.pytest("-n2")
    kill(int(life.note("running", process)))
    ended = life.end(process)
    assert ended.status == 1, ended
    verdicts = life.verdicts()
    assert verdicts.pop("test_long") == "broken"
    assert set(verdicts.values()) == {"passed"}
    assert len(verdicts) == 4
    assert ended.errors.count("making 2 machines") == 1
    assert life.left == []


# runs that are killed


def killed(life: Life, *options: str, moment: str = "test") -> None:
    """Kill a run, and all of its workers, with SIGKILL."""
    life.tests(LONG)
    process = life.pytest(*options)
    if moment == "test":
        worker = int(life.note("running", process))
        kill(*{process.pid, worker})
    else:
        life.made()
        kill(process.pid)
    process.communicate(timeout=30)
    (life.folder / "running").unlink(missing_ok=True)


@pytest.mark.parametrize("moment", ["bring-up", "test"])
def test_reap_leaves_nothing_of_a_killed_run(life: Life, moment: str) -> None:
    killed(life, moment=moment)
    assert f"interface {BRIDGE}" in life.left
    looked = life.cli("reap", "--dry-run")
    assert f"{NAME}: would be taken down" in looked.text
    assert f"bridge name={BRIDGE}" in looked.text
    assert f"interface {BRIDGE}" in life.left
    reaped = life.cli("reap")
    assert (reaped.status, reaped.errors) == (0, "")
    assert f"{NAME}: taken down, nothing remains" in reaped.text
    assert life.left == []


def test_reap_leaves_nothing_of_a_run_that_was_killed_with_its_workers(life: Life) -> None:
    killed(life, "-n2")
    ended = life.cli("reap")
    assert f"{NAME}: taken down, nothing remains" in ended.text, ended
    assert life.left == []


def test_the_next_run_takes_over_what_a_killed_one_left_whole(life: Life) -> None:
    killed(life)
    life.tests(GOOD)
    ended = life.run()
    assert ended.status == 0, ended
    assert USED_AGAIN in ended.text
    assert "making 2 machines" not in ended.errors
    assert life.left == []


def test_the_next_run_does_not_use_what_a_killed_one_has_put_a_fault_into(life: Life) -> None:
    life.tests(GOOD)
    assert life.run("--cluster-keep=always").status == 0
    life.tests(FAULT)
    process = life.pytest()
    life.note("running", process)
    kill(process.pid)
    assert USED_AGAIN in life.end(process).text
    life.tests(GOOD)
    ended = life.run()
    assert ended.status == 0, ended
    said = "ended while test_it.py::test_fault had put a fault into it: it was taken down, and is made anew"
    assert f"{NAME}: run " in ended.errors
    assert said in ended.errors
    assert USED_AGAIN not in ended.text
    assert "making 2 machines" in ended.errors
    assert life.left == []


def test_the_next_run_cleans_up_what_a_killed_one_left_half_made(life: Life) -> None:
    killed(life, moment="bring-up")
    life.tests(GOOD)
    ended = life.run()
    assert ended.status == 0, ended
    assert ended.errors.count("making 2 machines") == 1
    assert life.left == []


# runs beside each other


def test_two_workers_bring_one_cluster_up(life: Life) -> None:
    life.tests("""
@pytest.mark.parametrize("n", range(2))
def test_it(cluster, n):
    node = cluster["node01"]
    told(f"worker{n}", f"{os.getpid()} {node.read('/proc/1/stat').split()[21]} {node.read('/etc/machine-id')}")
    while not all(Path(f"worker{other}").exists() for other in range(2)):
        time.sleep(0.05)
""")
    ended = life.run("-n2")
    assert ended.status == 0, ended
    assert ended.errors.count("making 2 machines") == 1
    (one, *machine), (other, *same) = ((life.folder / f"worker{n}").read_text().split() for n in range(2))
    assert one != other
    assert machine == same
    assert life.left == []


def test_a_second_run_on_a_cluster_in_use_is_refused(life: Life) -> None:
    life.tests(LONG.replace("forever()", "\n    while not Path('enough').exists():\n        time.sleep(0.05)"))
    first = life.pytest()
    life.note("running", first)
    second = life.run()
    owner = f"pid {first.pid} on {socket.gethostname()}"
    assert second.status == 4
    assert second.first_error.startswith(f"cluster '{NAME}': in use by run "), second
    assert second.first_error.endswith(owner)
    assert "do: wait for that run to end, or use a cluster with another name" in second.errors
    refused = life.cli("down", "--cluster", NAME)
    assert (refused.status, owner in refused.first_error) == (1, True), refused
    reaped = life.cli("reap").text
    assert (NAME in reaped, owner in reaped, "left alone" in reaped) == (True, True, True), reaped
    (life.folder / "enough").touch()
    assert life.end(first).status == 0
    assert life.left == []


# clusters that are kept


def test_a_kept_cluster_is_used_again_and_taken_down(life: Life) -> None:
    life.tests(GOOD)
    kept = life.run("--cluster-keep=always")
    assert kept.status == 0, kept
    last = kept.text.strip().splitlines()[-1]
    assert f"take down: pytest-ai-how down --cluster {NAME}" in last
    assert f"interface {BRIDGE}" in life.left
    assert f"{NAME}: kept; left alone" in life.cli("reap").text
    again = life.run("--cluster-keep=always")
    assert again.status == 0, again
    assert USED_AGAIN in again.text
    assert "making" not in again.errors
    assert life.cli("exec", "--cluster", NAME, "--on", "node01", "--", "uname", "-n").text == "node01: node01\n"
    down = life.cli("down", "--cluster", NAME)
    assert (down.status, down.errors) == (0, "")
    assert f"cluster {NAME} is down, nothing of it remains" in down.text
    assert life.left == []


def test_a_cluster_is_kept_for_a_look_at_a_failure_only(life: Life) -> None:
    life.tests("def test_bad(cluster):\n    assert False\n")
    assert life.run("--cluster-keep=failed").status == 1
    assert f"interface {BRIDGE}" in life.left
    life.tests(GOOD)
    ended = life.run("--cluster-keep=failed")
    assert ended.status == 0, ended
    assert USED_AGAIN in ended.text
    assert life.left == []


def test_a_kept_cluster_of_another_configuration_is_made_anew(life: Life) -> None:
    life.tests(GOOD)
    assert life.run("--cluster-keep=always").status == 0
    life.config(memory=("memory: 256", "memory: 300"))
    ended = life.run()
    assert ended.status == 0, ended
    assert USED_AGAIN not in ended.text
    assert ended.errors.count("making 2 machines") == 1
    assert life.left == []


def test_a_kept_cluster_whose_machine_died_is_made_anew(life: Life) -> None:
    life.tests("def test_it(cluster):\n    told('node', str(os.getpid()))\n")
    assert life.run("--cluster-keep=always").status == 0
    [machine] = [int(one.split()[1]) for one in life.left if one.startswith("process ") and "systemd-nspawn" in one][:1]
    kill(machine)
    ended = life.run()
    assert ended.status == 0, ended
    assert life.left == []
