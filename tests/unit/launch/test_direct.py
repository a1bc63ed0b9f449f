"""Jobs without Slurm, as real processes of this machine."""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.errors import FileError
from pytest_ai_how.launch import JobFailed, Task, completed, direct
from pytest_ai_how.launch.direct import DirectLauncher, Record
from pytest_ai_how.launch.protocol import run
from pytest_ai_how.lease.processes import process
from pytest_ai_how.node import Node
from pytest_ai_how.transport.local import LocalTransport


def launcher(folder: Path, minute: float = 60.0) -> DirectLauncher:
    config = NodeConfig(name="box", roles=("compute",), address=IPv4Address("127.0.0.1"))
    return DirectLauncher(Node(config, LocalTransport("box")), str(folder / "jobs"), minute=minute)


def task(found: DirectLauncher, text: str, **changes: object) -> Task:
    return Task("work", ("sh", "-c", text), found.folder, **changes)  # type: ignore[arg-type]


def pids(path: Path) -> list[int]:
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
    return [int(word) for word in path.read_text().split()]


def test_a_job_that_works(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    text = 'echo "$GREETING"; echo said >&2; pwd; echo "$AI_HOW_HEAD:$AI_HOW_PORT $AI_HOW_NODE/$AI_HOW_NODES"; cat'
    before = time.time()
    ended = run(found, task(found, text, env={"GREETING": "a 'b' $c"}, port=True), within=30)
    assert (ended.ok, ended.state, ended.status, ended.signal, ended.nodes) == (True, "COMPLETED", 0, 0, ("box",))
    assert found.read(ended.stdout).splitlines() == ["a 'b' $c", found.folder, "localhost:0 0/1"]
    assert found.read(ended.stderr) == "said\n"
    assert before <= ended.started <= ended.ended <= time.time()
    assert ended.elapsed == pytest.approx(ended.ended - ended.started)
    completed(ended, "")


def test_files_of_a_job(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    found.write(f"{found.folder}/in", "text ü\n")
    assert found.read(f"{found.folder}/in") == "text ü\n"
    with pytest.raises(FileError, match=rf"^box: {tmp_path}/none/in could not be written: No such file or directory"):
        found.write(f"{tmp_path}/none/in", b"x")


def test_starting_does_not_wait_and_the_gpus_are_the_first(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    job = found.start(task(found, 'echo "$CUDA_VISIBLE_DEVICES" | tr , " " >seen; sleep 60', gpus=2))
    assert (found.running(job), found.over(job)) == (("box",), False)
    pids(Path(found.folder) / "seen")
    found.cancel(job)
    assert (found.running(job), found.over(job)) == ((), True)
    assert (Path(found.folder) / "seen").read_text() == "0 1\n"


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    ended = run(found, task(found, "echo 'ValueError: no data' >&2; exit 3"), within=30)
    assert (ended.state, ended.status, ended.signal) == ("FAILED", 3, 0)
    with pytest.raises(JobFailed, match=r"^box: job \w+ \(work\) ended as FAILED with status 3: ValueError: no data\n"):
        completed(ended, found.read(ended.stderr))


def test_a_job_that_fails_shows_what_it_said_before(tmp_path: Path) -> None:
    """What a program says last may be beside the point: a library that could not call home."""
    found = launcher(tmp_path)
    ended = run(found, task(found, "echo 'ValueError: no data' >&2; echo 'could not upload' >&2; exit 3"), within=30)
    said = "status 3: could not upload\n  standard error:\n    ValueError: no data\n    could not upload\n  expected: "
    with pytest.raises(JobFailed, match=said):
        completed(ended, found.read(ended.stderr))


def test_a_job_that_is_killed_names_the_signal(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    ended = run(found, task(found, "kill -SEGV $$"), within=30)
    assert (ended.state, ended.status, ended.signal) == ("FAILED", 0, 11)


def test_a_job_whose_time_is_over_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """What left its session and ignores SIGTERM, too."""
    found = launcher(tmp_path, minute=1.0)
    text = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >escaped; while :; do sleep 1; done' & echo $$; wait"
    ended = run(found, task(found, text), within=30)
    assert (ended.state, ended.limit) == ("TIMEOUT", "5 min")
    assert 1.0 <= ended.elapsed < 20
    (escaped,) = pids(Path(found.folder) / "escaped")
    assert process(escaped) is None


def test_cancelling_ends_all_processes_and_nothing_else(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    other = found.start(task(found, "sleep 60"))
    job = found.start(task(found, "setsid sh -c 'echo $$ >escaped; sleep 61' & echo $$ >own; sleep 62"))
    everybody = pids(Path(found.folder) / "escaped") + pids(Path(found.folder) / "own")
    found.cancel(job)
    assert [process(pid) for pid in everybody] == [None, None]
    ended = found.ended(job, within=10)
    assert (ended.state, ended.ok) == ("CANCELLED", False)
    assert ended.elapsed >= 0
    found.cancel(job)  # again is no error
    assert found.running(other) == ("box",)
    found.cancel(other)


def test_one_that_does_not_end_in_time_is_cancelled(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    job = found.start(task(found, "echo $$ >own; sleep 63"))
    (pid,) = pids(Path(found.folder) / "own")
    with pytest.raises(JobFailed, match=rf"^box: job {job.id} \(work\) has not ended after 0\.2 s"):
        found.ended(job, within=0.2)
    assert process(pid) is None


def test_a_job_whose_record_never_came(tmp_path: Path) -> None:
    """As after a reboot of the machine: nothing runs, and nobody wrote how it ended."""
    found = launcher(tmp_path)
    job = found.start(task(found, "echo $$ >own; sleep 64"))
    pids(Path(found.folder) / "own")
    found.query("sh", "-c", direct.KILL, "sh", job.id)
    assert found.ended(job, within=10).state == "NODE_FAIL"


def test_several_machines_are_refused(tmp_path: Path) -> None:
    found = launcher(tmp_path)
    with pytest.raises(JobFailed, match=r"^box: job work wants 2 × 1 processes, and there is no Slurm here"):
        found.start(task(found, "true", nodes=2))


def test_an_image_is_run_by_apptainer(tmp_path: Path) -> None:
    """Where there is no Apptainer, its absence is what the job fails with."""
    found = launcher(tmp_path)
    ended = run(found, task(found, "true", image="/none.sif"), within=30)
    assert not ended.ok
    assert "/none.sif" in found.read(ended.stderr) or "apptainer" in found.read(ended.stderr)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("0 10.0 20.0", "COMPLETED"),
        ("1 10.0 20.0", "FAILED"),
        ("124 10.0 15.0", "FAILED"),
        ("124 10.0 20.1", "TIMEOUT"),
        ("137 10.0 22.5", "TIMEOUT"),
        ("139 10.0 22.5", "FAILED"),
    ],
)
def test_states(text: str, state: str) -> None:
    assert Record.parse(text).state(10.0) == state
