"""However a run ends, the cluster is given back; a kept one says how to reach it."""

from __future__ import annotations

import re
import signal

import pytest

from pytest_ai_how.deadline import wait_for
from tests.unit.plugin.conftest import Site

ONE = """
@pytest.mark.check("SLU-12")
def test_one(cluster, evidence):
    evidence.attach("seen", "1")
    {body}
"""


def test_taken_down(site: Site) -> None:
    site.test(ONE.format(body=""))
    done = site.run()
    assert done.status == 0
    assert site.ups == 1
    assert site.left == []
    assert re.search(r"reports in .*/reports/\d{8}-\d{6}-[0-9a-f]{4}", done.text)


def test_what_can_not_be_taken_down_leaves_the_run_undecided_whatever_its_checks_say(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_one(bringup, cluster, evidence):
    evidence.attach("seen", "1")
    bringup.lease.journal.of("machines").intend("riddle", text="open-" + "sesame-1234")
""")
    done = site.run()
    [trouble] = done.report["run"]["troubles"]
    assert trouble.startswith("the cluster was not taken down: localhost: 1 parts of cluster 'plug' remain:")
    assert "riddle text=[redacted]: this version does not know how to undo a 'riddle'" in trouble
    assert (done.verdicts, done.report["verdict"], done.status) == ({"test_one": "passed"}, "undecided", 1)
    assert done.report["reasons"] == [trouble]
    assert done.report["run"]["ended"] >= done.report["results"][0]["started"]


@pytest.mark.parametrize(
    ("keep", "body", "kept"),
    [("always", "", True), ("failed", "", False), ("failed", "assert False", True), ("never", "assert False", False)],
)
def test_keep(site: Site, keep: str, body: str, kept: bool) -> None:
    site.test(ONE.format(body=body))
    done = site.run(f"--cluster-keep={keep}")
    assert bool(site.left) is kept
    last = done.text.splitlines()[-1]
    if not kept:
        assert "is kept" not in done.text
        return
    assert last == (
        "cluster plug is kept: attach: pytest --cluster=plug.yaml SUITE; "
        "look inside: pytest-ai-how ssh --cluster plug controller; "
        "take down: pytest-ai-how down --cluster plug"
    )
    site.test(ONE.format(body=""))
    again = site.run()
    assert "cluster plug, found up and used again" in again.text
    assert site.ups == 1
    assert site.left == []


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(site: Site, workers: str, number: signal.Signals) -> None:
    site.test(ONE.format(body="open('begun', 'w').close(); time.sleep(60)"))
    process = site.start(workers)
    wait_for((site.folder / "begun").exists, within=30, what="begun")
    process.send_signal(number)
    done = site.finish(process)
    assert done.status == 2, done.text + done.errors
    assert site.left == []
    assert done.verdicts == {"test_one": "blocked"}
    assert done.report["verdict"] == "undecided"
    assert any("interrupted" in trouble for trouble in done.report["run"]["troubles"])


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_stop_at_the_first_failure(site: Site, workers: str) -> None:
    site.test(
        ONE.format(body="assert False, 'node01: no'")
        + "\n@pytest.mark.check('SLU-13')\n@pytest.mark.parametrize('n', range(9))\n"
        "def test_later(n, evidence):\n    time.sleep(0.3)\n    evidence.attach('seen', '1')\n"
    )
    done = site.run("-x", workers)
    assert done.status in (1, 2)
    assert done.report["verdict"] == "unfit"
    assert done.verdicts["test_later[8]"] == "blocked"
    assert done.reason("test_later[8]") == "blocked: the run ended before it"
    assert site.left == []


@pytest.mark.parametrize("scope", ["function", "session"])
def test_an_error_in_a_fixture(site: Site, scope: str) -> None:
    site.test(f"""
@pytest.fixture(scope="{scope}")
def broken(cluster):
    raise OSError("no more")

@pytest.mark.check("SLU-12")
def test_one(broken): pass
""")
    done = site.run()
    assert done.verdicts == {"test_one": "broken"}
    assert site.left == []


def test_a_collection_error(site: Site) -> None:
    site.test("import no_such_module\n")
    done = site.run()
    assert done.status == 2
    assert done.report["verdict"] == "undecided"
    assert "test_it.py: could not be collected" in done.report["run"]["troubles"]
    assert site.left == []


def test_a_cluster_that_is_in_use(site: Site) -> None:
    site.test(ONE.format(body="open('begun', 'w').close(); time.sleep(60)"))
    first = site.start()
    wait_for((site.folder / "begun").exists, within=30, what="begun")
    second = site.run()
    assert second.status == 4
    assert f"cluster 'plug': in use by run {second.run.name}, pid {first.pid}" in second.errors
    first.send_signal(signal.SIGTERM)
    assert site.finish(first).status == 2
    assert site.left == []


def test_a_crash_of_everything_is_an_orphan(site: Site) -> None:
    site.test(ONE.format(body="os.kill(os.getpid(), signal.SIGKILL)"))
    assert site.run().status == -signal.SIGKILL
    assert "record.json" in site.left
    site.test(ONE.format(body=""))
    done = site.run("--reports=second")
    assert done.status == 0, done.text + done.errors
    assert site.left == []


def test_reports_that_cannot_be_written(site: Site) -> None:
    site.test(ONE.format(body=""))
    (site.folder / "file").write_text("")
    done = site.run("--reports=file")
    assert done.status == 4
    assert "Not a directory" in done.errors + done.text
    assert site.left == []
