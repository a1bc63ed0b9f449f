"""However a run ends that breaks something on purpose: the next one does not use what may still be broken."""

from __future__ import annotations

import signal
import subprocess

import pytest

from pytest_ai_how.deadline import wait_for
from tests.unit.plugin.conftest import Outcome, Site

BREAKS = """
@pytest.fixture
def undone():
    yield
    {teardown}

@pytest.mark.disruptive
def test_break(cluster, undone):
    open("begun", "w").close()
    {body}
"""
GOOD = "def test_good(cluster): pass\n"
KILL_ALL = "[os.kill(pid, signal.SIGKILL) for pid in ({parent} os.getpid(),)]"
SAID = "ended while test_it.py::test_break had put a fault into it"
USED_AGAIN = "found up and used again"


def breaks(site: Site, body: str = "pass", teardown: str = "pass") -> None:
    site.test(BREAKS.format(body=body, teardown=teardown))


def next_run(site: Site, *options: str) -> Outcome:
    site.test(GOOD)
    done = site.run("--reports=second", *options)
    assert done.status == 0, done.text + done.errors
    return done


def made_anew(site: Site) -> None:
    done = next_run(site)
    assert USED_AGAIN not in done.text
    assert f"{SAID}: it was taken down, and is made anew" in done.errors
    assert site.ups == 2
    assert site.left == []


@pytest.mark.parametrize(("workers", "parent"), [("-n0", ""), ("-n2", "os.getppid(),")])
def test_a_run_that_was_killed(site: Site, workers: str, parent: str) -> None:
    breaks(site, KILL_ALL.format(parent=parent))
    assert site.run(workers).status == -signal.SIGKILL
    made_anew(site)


def test_a_worker_that_was_killed(site: Site) -> None:
    breaks(site, "os.kill(os.getpid(), signal.SIGKILL)")
    assert site.run("-n2", "--cluster-keep=always").verdicts == {"test_break": "broken"}
    made_anew(site)


def test_a_tear_down_that_failed(site: Site) -> None:
    breaks(site, teardown="raise OSError('node01: did not start')")
    assert site.run("--cluster-keep=always").verdicts == {"test_break": "broken"}
    made_anew(site)


AFTERWARDS = """
@pytest.mark.disruptive
def test_next(cluster):
    open("used", "w").close()

@pytest.mark.disruptive
def test_elsewhere(): pass
"""


@pytest.mark.parametrize(
    ("workers", "body", "teardown"),
    [
        ("-n1", "os.kill(os.getpid(), signal.SIGKILL)", "pass"),  # xdist replaces it; two would choose their order
        ("-n0", "pass", "raise OSError('node01: did not start')"),
        ("-n1", "pass", "raise OSError('node01: did not start')"),
    ],
)
def test_what_comes_after_it_in_the_same_run(site: Site, workers: str, body: str, teardown: str) -> None:
    """It would be red for what another test did, or green by luck; what uses no cluster goes on."""
    site.test(BREAKS.format(body=body, teardown=teardown) + AFTERWARDS)
    done = site.run(workers)
    assert done.verdicts == {"test_break": "broken", "test_next": "blocked", "test_elsewhere": "passed"}
    said = "blocked: test_it.py::test_break put a fault into the cluster and is over without having undone it"
    assert done.reason("test_next") == said
    assert not (site.folder / "used").exists()
    assert site.left == []


@pytest.mark.parametrize("body", ["pass", "assert False"])
def test_what_comes_after_one_that_has_undone_it(site: Site, body: str) -> None:
    site.test(BREAKS.format(body=body, teardown="pass") + AFTERWARDS)
    done = site.run("-n2")
    assert done.verdicts["test_next"] == "passed"


def test_a_run_that_was_interrupted(site: Site) -> None:
    breaks(site, "time.sleep(60)")
    process: subprocess.Popen[str] = site.start("--cluster-keep=always")
    wait_for((site.folder / "begun").exists, within=30, what="begun")
    process.send_signal(signal.SIGTERM)
    assert site.finish(process).status == 2
    made_anew(site)


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("body", ["pass", "assert False"])
def test_a_test_that_came_to_its_end(site: Site, workers: str, body: str) -> None:
    breaks(site, body)
    site.run(workers, "--cluster-keep=always")
    done = next_run(site)
    assert USED_AGAIN in done.text
    assert "fault" not in done.errors
    assert site.ups == 1


def test_a_run_that_was_killed_while_nothing_was_broken(site: Site) -> None:
    site.test("def test_one(cluster): os.kill(os.getpid(), signal.SIGKILL)\n")
    assert site.run().status == -signal.SIGKILL
    assert USED_AGAIN in next_run(site).text


def test_a_check_that_the_catalogue_calls_a_fault(site: Site) -> None:
    site.test("@pytest.mark.check('SLU-44')\ndef test_break(cluster): os.kill(os.getpid(), signal.SIGKILL)\n")
    assert site.run().status == -signal.SIGKILL
    made_anew(site)


def test_machines_that_are_not_ours(site: Site) -> None:
    """Nobody makes them anew: who uses them next is warned, once."""
    config = site.folder / "plug.yaml"
    kept = [line for line in config.read_text().splitlines() if not line.startswith("network")]
    text = "\n".join([*kept, "storage: {kind: none}", "containers: {runtime: none}\n"])
    config.write_text(text.replace("driver: nspawn", "driver: ssh"))
    breaks(site, KILL_ALL.format(parent=""))
    assert site.run("--allow-disruptive").status == -signal.SIGKILL
    done = next_run(site)
    assert f"plug: warning: run {killed(site)} {SAID}, which may still be there" in done.errors
    assert (
        "  do: see in that test what it breaks, and undo it on the machines before you trust a verdict" in done.errors
    )
    assert "fault" not in site.run("--reports=third").errors


def killed(site: Site) -> str:
    [folder] = (site.folder / "reports").iterdir()
    return folder.name
