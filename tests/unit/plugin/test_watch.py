"""A kernel that dies fails the test that ran, and a failure shows what the machines said."""

from __future__ import annotations

import pytest

from tests.unit.plugin.conftest import Site

TESTS = """
from pathlib import Path

CONSOLES = Path(os.environ["FAKE_LOG"]).parent

def say(node, text):
    with (CONSOLES / (node + ".console")).open("a") as console:
        console.write(text)

PANIC = "[   93.1] sysrq: Trigger a crash\\n[   93.2] Kernel panic - not syncing: sysrq triggered crash\\n"

@pytest.mark.check("SLU-12")
def test_before(cluster, evidence):
    say("node01", "systemd[1]: Started ssh.service\\n")
    evidence.attach("seen", "1")

@pytest.mark.check("SLU-13")
def test_panic(cluster, evidence):
    evidence.attach("seen", "all is well")
    say("node02", PANIC)

@pytest.mark.check("SLU-14")
def test_after(cluster, evidence):
    evidence.attach("seen", "1")

@pytest.mark.check("SLU-15")
def test_panic_behind_an_error(cluster):
    say("node01", "BUG: unable to handle page fault for address: 0000000000001000\\nopen-sesame-1234\\n")
    raise OSError("connection reset")

@pytest.mark.check("SLU-16")
@pytest.mark.panics
def test_on_purpose(cluster, evidence):
    evidence.attach("seen", "1")
    say("node01", PANIC)

@pytest.mark.check("SLU-17")
def test_failed(cluster, evidence):
    say("controller", "slurmctld: hung up\\n")
    assert False, "controller: no answer"

@pytest.fixture
def late():
    yield
    say("node01", "Oops: 0002 [#1] PREEMPT SMP NOPTI\\n")

@pytest.mark.check("SLU-18")
def test_at_the_end(cluster, evidence, late):
    evidence.attach("seen", "1")
"""


@pytest.fixture
def site(site: Site) -> Site:
    site.test(TESTS)
    return site


def test_a_kernel_that_dies_fails_the_test_that_ran(site: Site) -> None:
    (site.folder / "node01.console").write_text("Kernel panic - not syncing: of an earlier run\n")
    outcome = site.run()
    assert outcome.verdicts == {
        "test_before": "passed",
        "test_panic": "failed",
        "test_after": "passed",
        "test_panic_behind_an_error": "failed",
        "test_on_purpose": "passed",
        "test_failed": "failed",
        "test_at_the_end": "failed",
    }
    assert outcome.reason("test_panic") == (
        "node02: its kernel died while the test ran: Kernel panic - not syncing: sysrq triggered crash; "
        "see the attached console"
    )
    reason = outcome.reason("test_panic_behind_an_error").splitlines()
    assert reason[0].startswith("node01: its kernel died while the test ran: BUG: unable to handle page fault for")
    assert reason[1] == "OSError: connection reset"
    assert "Oops: 0002 [#1]" in outcome.reason("test_at_the_end")


def test_consoles_are_attached_to_what_failed_and_hold_no_secrets(site: Site) -> None:
    results = {result["nodeid"].split("::")[1]: result for result in site.run().report["results"]}
    attached = {name: [one["name"] for one in result["attachments"]] for name, result in results.items()}
    assert attached["test_panic"] == ["seen", "node02: console"]
    assert attached["test_failed"] == ["controller: console"]
    assert attached["test_panic_behind_an_error"] == ["node01: console"]
    assert attached["test_before"] == attached["test_after"] == ["seen"]
    assert "open-sesame-1234" not in str(results)


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_all_consoles_outlive_the_machines_and_advice_names_them(site: Site, workers: str) -> None:
    advice = """
from pytest_ai_how.drivers.machines.boot import boot_failed

def test_boot(bringup):
    node = bringup.config.nodes[1]
    raise boot_failed(node, CONSOLES / (node.name + ".console"), "it ended")

def test_said(cluster):
    say("node01", "Welcome to Debian\\n")
    say("node02", "key open-sesame-1234\\n")
"""
    site.test(TESTS.partition("@pytest.mark.check")[0] + advice)
    for node in ("controller", "node01", "node02"):
        (site.folder / f"{node}.console").write_text("booting\n")
    done = site.run(workers)
    kept = {path.name: path.read_text() for path in (done.run / "consoles").iterdir()}
    assert kept == {
        "controller.log": "booting\n",
        "node01.log": "booting\nWelcome to Debian\n",
        "node02.log": "booting\nkey [redacted]\n",
    }
    advised = f"do: read {done.run}/consoles/node01.log"
    assert done.reason("test_boot").splitlines()[-1].strip() == advised
    assert advised in done.text
    assert "node01.console" not in done.reason("test_boot")


def test_consoles_that_can_not_be_kept_are_told(site: Site) -> None:
    site.test("""
from pathlib import Path

def test_one(cluster, pytestconfig):
    [run] = Path("reports").iterdir()
    (run / "consoles").write_text("in the way")
""")
    (site.folder / "node01.console").write_text("booting\n")
    done = site.run()
    assert (done.status, done.verdicts) == (1, {"test_one": "passed"})
    assert f"{done.run}/consoles: the consoles are not kept: " in done.text
    assert site.left == []
