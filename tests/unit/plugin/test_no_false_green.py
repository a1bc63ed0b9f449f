"""Ways to make a run look better than it was, each of which must show in the verdict and in the exit status."""

from __future__ import annotations

import pytest

from tests.unit.plugin.conftest import Outcome, Site

GOOD = """
@pytest.mark.check("SLU-12")
def test_good(evidence):
    evidence.attach("seen", "1")
"""


def refused(done: Outcome, verdict: str = "undecided") -> None:
    assert (done.report["verdict"], done.status) == (verdict, 1), done.text + done.errors


def row(done: Outcome, check: str) -> tuple[str, str]:
    [found] = [one for one in done.report["rows"] if one["row"]["id"] == check]
    return found["verdict"], found["reason"]


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan"])
def test_set_up_is_not_run(site: Site, option: str) -> None:
    site.test(GOOD + "\ndef test_plain(): pass\n")
    done = site.run(option)
    refused(done)
    assert done.verdicts == {"test_good": "broken", "test_plain": "broken"}
    assert done.reason("test_good") == "it was set up but never called (--setup-only, --setup-plan)"


def test_the_worst_of_the_same_test_counts(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_twice(evidence):
    evidence.attach("seen", "1")
    if not os.path.exists("second"):
        open("second", "w").close()
        assert False, "node01: only at first"
""")
    done = site.run("--keep-duplicates", "test_it.py", "test_it.py", "-p", "no:xdist")
    refused(done, "unfit")
    assert done.reason("test_twice").startswith("node01: only at first")


def test_the_worst_of_all_workers_counts(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_each(evidence):
    evidence.attach("seen", "1")
    if os.environ["PYTEST_XDIST_WORKER"] == "gw0":
        assert False, "node01: not on gw0"
    time.sleep(1)
""")
    done = site.run("-n2", "--dist=each")
    refused(done, "unfit")


def test_a_crash_before_a_pass_counts(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_crash(evidence):
    evidence.attach("seen", "1")
    if not os.path.exists("second"):
        open("second", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.check("SLU-13")
def test_other(evidence):
    evidence.attach("seen", "1")
""")
    done = site.run("-n2", "--dist=loadscope")
    refused(done)
    assert done.verdicts["test_crash"] == "broken"


def test_a_file_that_skips_itself(site: Site) -> None:
    site.test(GOOD)
    site.test("pytest.importorskip('no_such_library')\n" + GOOD.replace("SLU-12", "SLU-13"), "test_self.py")
    site.test("pytest.importorskip('no_such_library')\ndef test_plain(): pass\n", "test_plain.py")
    for workers in ("-n0", "-n2"):
        done = site.run(workers, f"--reports={workers[1:]}")
        done = Outcome(done.status, done.text, done.errors, site.folder / workers[1:])
        refused(done)
        [trouble] = done.report["run"]["troubles"]
        assert trouble.startswith("test_self.py: holds checks, but skipped itself: could not import 'no_such_library'")


def test_a_figure_outside_its_limit_that_the_check_swallows(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
def test_swallows(measure, evidence):
    with pytest.raises(AssertionError):
        measure("slurm.cancel", 1e9, "s", node="node01")
""")
    done = site.run()
    refused(done, "unfit")
    assert done.reason("test_swallows").startswith("node01: slurm.cancel is 1e+09 s")


def test_a_failure_that_pytest_alone_knows_of(site: Site) -> None:
    site.test(GOOD)
    (site.folder / "conftest.py").write_text(
        (site.folder / "conftest.py").read_text()
        + """

def pytest_runtest_logreport(report):
    if report.when == "teardown" and not hasattr(report, "again"):
        import copy
        other = copy.copy(report)
        other.outcome, other.longrepr, other.when, other.again = "failed", "part 2: no", "call", True
        del other.ai_how_result
        manager.hook.pytest_runtest_logreport(report=other)

def pytest_configure(config):
    global manager
    manager = config
"""
    )
    done = site.run()
    refused(done)
    [trouble] = done.report["run"]["troubles"]
    assert trouble == "test_it.py::test_good: failed, says pytest, but came to 'passed'"


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("with subtests.test('one'):\n        assert False, 'node01: no'", "unfit"),
        ("return evidence.samples == 99", "undecided"),
        ("pytest.exit('enough', returncode=0)", "undecided"),
        ("sys.exit(0)", "undecided"),
        ("pytest.xfail('known')", "undecided"),
        ("pytest.skip('no time')", "undecided"),
    ],
)
def test_ends_of_a_check(site: Site, body: str, verdict: str) -> None:
    if "subtests" in body and int(pytest.__version__.split(".")[0]) < 9:
        pytest.skip("subtests come with pytest 9")
    (site.folder / "pytest.ini").write_text("[pytest]\n")  # whatever becomes of warnings
    fixture = ", subtests" if "subtests" in body else ""
    site.test(f"""
import sys
@pytest.mark.check("SLU-12")
def test_it(evidence{fixture}):
    evidence.attach("seen", "1")
    {body}
""")
    refused(site.run(), verdict)


@pytest.mark.parametrize("setting", ["skip", "xfail", "fail_at_collect"])
def test_no_parameters(site: Site, setting: str) -> None:
    site.test(
        """
@pytest.mark.check("SLU-12")
@pytest.mark.parametrize("node", [])
def test_none(node, evidence):
    evidence.attach("seen", "1")
"""
        + GOOD.replace("SLU-12", "SLU-13")
    )
    done = site.run("-o", f"empty_parameter_set_mark={setting}")
    assert done.status != 0
    assert done.report["verdict"] == "undecided"


def test_an_expected_failure_is_no_pass(site: Site) -> None:
    site.test("@pytest.mark.xfail(reason='known')\ndef test_plain():\n    assert False\n")
    done = site.run()
    refused(done)
    assert done.verdicts == {"test_plain": "not_applicable"}
    assert done.reason("test_plain") == "expected to fail: known"


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ("@pytest.mark.on('compute')\ndef test_on(evidence):", "without the fixture 'node'"),
        ("@pytest.mark.on('compute', 'storage')\ndef test_on(node, evidence):", "@pytest.mark.on takes one text"),
    ],
)
def test_a_role_that_would_not_be_looked_at(site: Site, marks: str, message: str) -> None:
    site.test(f"@pytest.mark.check('SLU-12')\n{marks}\n    evidence.attach('seen', '1')\n")
    done = site.run()
    assert done.status == 2
    assert message in done.text


def test_tests_that_vanish_without_a_word(site: Site) -> None:
    site.test(GOOD + GOOD.replace("SLU-12", "SLU-13").replace("good", "gone"))
    hook = "\n\ndef pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if 'gone' not in i.name]\n"
    (site.folder / "conftest.py").write_text((site.folder / "conftest.py").read_text() + hook)
    done = site.run()
    assert row(done, "SLU-13") == ("not_selected", "deselected")
    assert "verdict: FIT — 1 of 1 checks passed, " in done.text
    assert " not selected\n" in done.text


def test_a_check_deselected_in_part(site: Site) -> None:
    site.test("""
@pytest.mark.check("SLU-12")
@pytest.mark.parametrize("name", ["node01", "node02"])
def test_each(name, evidence):
    evidence.attach("seen", "1")
""")
    done = site.run("-k", "node01")
    assert row(done, "SLU-12") == ("passed", "deselected in part: test_it.py::test_each[node02]")
    assert "verdict: FIT — 1 of 1 checks passed, 1 of them in part, " in done.text
    assert "  in part: deselected in part: test_it.py::test_each[node02]: SLU-12" in done.text


def test_assertions_that_python_drops(site: Site) -> None:
    site.test(GOOD)
    (site.folder / "pytest.ini").write_text("[pytest]\n")
    done = site.run(PYTHONOPTIMIZE="1")
    assert done.status == 4
    assert "python -O drops assertions" in done.errors
    assert site.ups == 0


@pytest.mark.parametrize("options", [("-p", "no:terminal"), ("-p", "no:cacheprovider"), ("-q", "-q"), ("--tb=no",)])
def test_options_that_say_less_judge_alike(site: Site, options: tuple[str, ...]) -> None:
    site.test(GOOD + "    assert False, 'node01: no'\n")
    refused(site.run(*options), "unfit")


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_declared_absence_is_told(site: Site, workers: str) -> None:
    site.test(
        GOOD
        + """
@pytest.mark.check("SLU-13")
@pytest.mark.requires("gpu")
def test_gpu(evidence):
    evidence.attach("seen", "1")
    assert False
"""
    )
    config = site.folder / "plug.yaml"
    config.write_text(config.read_text() + "absent: [gpu]\n")
    done = site.run(workers)
    assert "ai-how: absent: gpu: declared absent in cluster 'plug'" in done.text
    assert "1 of 2 checks passed, 1 not applicable" in done.text
    assert "  not applicable: capability 'gpu' is absent: declared absent in cluster 'plug': SLU-13" in done.text
    assert {"name": "gpu", "reason": "declared absent in cluster 'plug'"} in done.report["run"]["absent"]


def test_last_failed_says_that_others_were_left_out(site: Site) -> None:
    site.test(GOOD)
    site.test(GOOD.replace("SLU-12", "SLU-13") + "    assert not os.path.exists('bad')\n", "test_b.py")
    (site.folder / "bad").write_text("")
    assert site.run("--reports=first").status == 1
    (site.folder / "bad").unlink()
    done = site.run("--lf")
    assert row(done, "SLU-12") == ("not_selected", "in a suite that was not selected")
    assert "verdict: FIT — 1 of 1 checks passed, " in done.text
    assert " not selected\n" in done.text


def test_a_part_of_a_check_may_come_before_its_evidence(site: Site) -> None:
    if int(pytest.__version__.split(".")[0]) < 9:
        pytest.skip("subtests come with pytest 9")
    site.test("""
@pytest.mark.check("SLU-12")
def test_it(subtests, evidence):
    with subtests.test("one"):
        pass
    evidence.attach("seen", "1")
""")
    done = site.run()
    assert (done.verdicts, done.status) == ({"test_it": "passed"}, 0)


def test_a_worker_that_dies_when_no_test_runs(site: Site) -> None:
    site.test(GOOD)
    hook = "\n\ndef pytest_runtest_logfinish():\n    if 'PYTEST_XDIST_WORKER' in os.environ:\n        os._exit(3)\n"
    (site.folder / "conftest.py").write_text((site.folder / "conftest.py").read_text() + hook)
    done = site.run("-n1")
    refused(done)
    assert any("did not end well" in trouble for trouble in done.report["run"]["troubles"])
