"""Every verdict, as the terminal, the report and the exit status tell it."""

from __future__ import annotations

import pytest

from tests.unit.plugin.conftest import Site

CHECKS = """
@pytest.mark.check("SLU-12")
def test_good(cluster, evidence):
    '''One line about it.'''
    evidence.result(cluster.controller.run("true"))

@pytest.mark.check("SLU-13")
def test_bad(cluster, evidence):
    evidence.attach("seen", "42")
    assert False, "node01: 42 jobs, expected 43; see slurmctld's log"

@pytest.mark.check("SLU-14")
def test_harness(cluster, evidence):
    raise ZeroDivisionError("by zero")

@pytest.mark.check("SLU-15")
def test_nothing(cluster, evidence):
    evidence.attach("empty", "  ")

@pytest.mark.check("SLU-16")
@pytest.mark.requires("beegfs")
def test_beegfs(cluster, evidence):
    raise AssertionError("never run")

@pytest.mark.check("SLU-17")
def test_skips(cluster):
    pytest.skip("no time")

@pytest.mark.check("SLU-18")
@pytest.mark.xfail
def test_expected(cluster):
    assert False

@pytest.mark.check("SLU-19")
@pytest.mark.skip(reason="flaky")
def test_marked_skip(cluster):
    assert False

@pytest.fixture
def sticky():
    yield
    raise OSError("cannot clean")

@pytest.mark.check("SLU-20")
def test_teardown(evidence, sticky):
    evidence.attach("seen", "1")

@pytest.mark.check("SLU-21")
def test_setup(evidence, no_such_fixture):
    pass

@pytest.mark.check("SLU-25")
def test_several(cluster, evidence):
    evidence.attach("seen", "1")
    raise ExceptionGroup("2 nodes", [AssertionError("node01: down"), AssertionError("node02: down")])

def test_plain():
    pass
"""


@pytest.fixture
def good(site: Site) -> Site:
    site.test(CHECKS[: CHECKS.index('@pytest.mark.check("SLU-13")')])
    return site


def test_each_verdict(site: Site) -> None:
    site.test(CHECKS)
    done = site.run("-v")
    assert done.verdicts == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_harness": "broken",
        "test_nothing": "no_evidence",
        "test_beegfs": "not_applicable",
        "test_skips": "broken",
        "test_expected": "broken",
        "test_marked_skip": "broken",
        "test_teardown": "broken",
        "test_setup": "broken",
        "test_several": "failed",
        "test_plain": "passed",
    }
    assert done.status == 1
    assert done.report["verdict"] == "unfit"
    reasons = {name: done.reason(name) for name in done.verdicts}
    assert reasons["test_bad"].startswith("node01: 42 jobs, expected 43; see slurmctld's log")
    assert reasons["test_harness"] == "ZeroDivisionError: by zero"
    assert reasons["test_nothing"] == "no evidence: the check passed, but attached nothing and measured nothing"
    assert reasons["test_beegfs"].startswith(
        "not applicable: capability 'beegfs' is absent: storage.kind is host-directory"
    )
    assert reasons["test_skips"] == "skip without a declared capability: no time"
    assert reasons["test_marked_skip"] == "skip without a declared capability: flaky"
    assert "expected to fail" in reasons["test_expected"]
    assert reasons["test_teardown"] == "OSError: cannot clean"
    assert reasons["test_several"] == "node01: down (and 1 more)"
    for words in ("test_harness BROKEN", "test_nothing NO EVIDENCE", "test_beegfs NOT APPLICABLE", "test_bad FAILED"):
        assert words in done.text


def test_letters(site: Site) -> None:
    site.test(CHECKS)
    done = site.run("-p", "no:cacheprovider")
    assert "test_it.py .FBN-BBB.BBF." in done.text


def test_a_result_tells_its_story(good: Site) -> None:
    done = good.run()
    assert done.status == 0, done.text
    [result] = done.report["results"]
    assert result["ids"] == ["SLU-12"]
    assert result["title"] == "One line about it."
    assert result["location"].startswith("test_it.py:")
    assert result["seconds"] > 0
    assert "controller$ true" in result["attachments"][0]["content"]
    assert done.report["verdict"] == "fit"
    assert done.report["run"]["driver"] == "nspawn"
    for name in ("report.json", "junit.xml", "report.html", "allure"):
        assert (done.run / name).exists()
    assert not (done.run / "parts").exists()


def test_large_evidence_arrives_from_workers(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_large(evidence):
    evidence.attach("log", "x" * 200_000)
""")
    done = site.run("-n2")
    assert done.status == 0, done.text
    [result] = done.report["results"]
    assert len(result["attachments"][0]["content"]) == 200_000
    assert result["worker"] in ("gw0", "gw1")


def test_informational_checks_decide_nothing(good: Site) -> None:
    good.test(
        """
@pytest.mark.check("INF-44")
def test_informational(evidence):
    evidence.attach("seen", "0")
    assert False, "host: no update since a year"
""",
        "test_other.py",
    )
    done = good.run()
    assert done.verdicts["test_informational"] == "failed"
    assert done.report["verdict"] == "fit"
    assert done.status == 0


def test_undecided_is_not_zero(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_nothing():
    pass
""")
    done = site.run()
    assert done.report["verdict"] == "undecided"
    assert done.status == 1


def test_nothing_selected_is_not_zero(good: Site) -> None:
    done = good.run("-k", "nothing_at_all")
    assert done.status == 5
    assert done.report["verdict"] == "undecided"
    [row] = [row for row in done.report["rows"] if row["row"]["id"] == "SLU-12"]
    assert (row["verdict"], row["reason"]) == ("not_selected", "deselected")


def test_only_not_applicable_is_undecided(site: Site) -> None:
    site.test("""
@pytest.mark.check("STO-01")
def test_beegfs(evidence):
    pass
""")
    done = site.run()
    assert done.verdicts == {"test_beegfs": "not_applicable"}
    assert (done.report["verdict"], done.status) == ("undecided", 1)


def test_a_plain_failure_counts(good: Site) -> None:
    good.test("def test_plain():\n    assert False\n", "test_plain.py")
    done = good.run()
    assert (done.report["verdict"], done.status) == ("unfit", 1)


def test_a_capability_that_the_host_lacks(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
@pytest.mark.requires("cgroup.devices")
def test_devices(evidence):
    pass
""")
    done = site.run()
    assert done.reason("test_devices") == (
        "not applicable: capability 'cgroup.devices' is absent: no device controller on this host"
    )
    assert "ai-how: absent: cgroup.devices: no device controller on this host" in done.text


def test_a_failed_step_breaks_one_and_blocks_the_rest(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_first(cluster):
    pass

@pytest.mark.check("SLU-13")
def test_second(request):
    request.getfixturevalue("bringup").cluster()

@pytest.mark.check("SLU-14")
def test_third(bringup, evidence):
    bringup.ready("radio")
""")
    done = site.run("-v", FAKE_UP="1")
    assert done.verdicts == {"test_first": "broken", "test_second": "blocked", "test_third": "blocked"}
    assert done.reason("test_first").startswith("node02: step 'machines' failed: did not boot")
    assert "look at its console" in done.reason("test_first")
    assert done.reason("test_second") == "blocked: step 'machines' failed: node02: did not boot"
    assert "test_third BLOCKED" in done.text
    assert (done.report["verdict"], done.status) == ("undecided", 1)
    assert site.ups == 1
    assert site.left == []


def test_secrets_stay_out_of_reports(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_one(bringup, evidence):
    evidence.attach("key", "it is open-sesame-1234")
    bringup.cluster()
    assert False, "node01: open-sesame-1234 is wrong"
""")
    done = site.run("-n2")
    assert done.verdicts == {"test_one": "failed"}
    for path in done.run.rglob("*"):
        assert not path.is_file() or b"open-sesame" not in path.read_bytes().replace(b"def test", b""), path
    assert "it is [redacted]" in done.report["results"][0]["attachments"][0]["content"]


def test_what_a_worker_sent_holds_no_secret_that_only_the_controller_knew(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_one(evidence):  # asks for no cluster, so that its worker never learns the secrets of one
    with evidence.step("open-" + "sesame-1234"):
        kept = evidence.attach("open-" + "sesame-1234", "it is open-" + "sesame-1234")
    assert "sesame" in kept.content
    evidence.attach("much", ("it is open-" + "sesame-1234\\n") * 4000)  # goes by file
""")
    done = site.run("-n2")
    assert done.verdicts == {"test_one": "passed"}
    [result] = done.report["results"]
    assert result["steps"][0]["text"] == result["attachments"][0]["name"] == "[redacted]"
    assert [one["content"] for one in result["attachments"]] == ["it is [redacted]", "it is [redacted]\n" * 4000]
    for path in done.run.rglob("*"):
        assert not path.is_file() or b"open-sesame" not in path.read_bytes(), path


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_secrets_stay_out_of_what_pytest_shows_and_writes(site: Site, workers: str) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_one(cluster):
    print("the log says", "open-" + "sesame-1234")
    assert False, "node01: " + "open-" + "sesame-1234 is wrong"
""")
    done = site.run(workers, "--junitxml=pytest.xml", "-o", "junit_logging=all")
    written = (site.folder / "pytest.xml").read_text()
    for text in (done.text, written):
        assert "node01: [redacted] is wrong" in text
        assert "the log says [redacted]" in text
        assert "open-sesame" not in text


def test_a_secret_is_no_more_readable_for_being_cut(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_one(ready_service, evidence):
    ready_service("radio")
    evidence.attach("log", "x" * (128 * 1024 - 13) + "open-" + "sesame-1234" + "y" * 200_000)
""")
    done = site.run("-n1")
    assert done.verdicts == {"test_one": "passed"}
    [attachment] = done.report["results"][0]["attachments"]
    assert attachment["truncated_from"]
    assert "open-" not in attachment["content"]
