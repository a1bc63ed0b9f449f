"""This machine as its own only node: work is done on it, and it is afterwards as it was before, whatever happens."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from pytest_ai_how.report.model import RunReport, RunVerdict, Verdict
from pytest_ai_how.report.writer_json import load_report
from tests.readme import ROOT

from .conftest import NAME, Life, kill

CONFIG = f"""\
version: 1
name: {NAME}
driver: host
launcher: direct
nodes: [{{name: box, roles: [controller, compute], address: 127.0.0.1}}]
storage: {{kind: scratch, mount: PLACE}}
containers: {{runtime: none}}
"""
WORK = """
from pytest_ai_how.launch import Task
from pytest_ai_how.launch.protocol import completed, run

def test_work(launcher):
    ended = run(launcher, Task("write", ("sh", "-c", "echo done >result"), launcher.folder), within=20)
    completed(ended, launcher.read(ended.stderr))
    assert launcher.read(launcher.folder + "/result") == "done\\n"
"""
LONG = """
from pytest_ai_how.launch import Task

def test_long(launcher):
    # timeout(1) and the shell below it run in a session of their own, as jobs of training do.
    job = launcher.start(Task("long", ("sh", "-c", "setsid sleep 600 & sleep 600"), launcher.folder))
    told("started", launcher.folder)
    launcher.ended(job, 600)
"""


@pytest.fixture
def box(life: Life) -> Life:
    (life.folder / "small.yaml").write_text(CONFIG.replace("PLACE", str(place(life))))
    (life.folder / "beside").write_text("mine")
    return life


def place(life: Life) -> Path:
    return life.folder / "work"


def nothing_left(life: Life) -> None:
    assert life.left == []
    assert sorted(path.name for path in life.folder.glob("*work*")) == []
    assert (life.folder / "beside").read_text() == "mine"


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["alone", "-n2"])
def test_work_is_done_and_nothing_is_left(box: Life, options: tuple[str, ...]) -> None:
    box.tests(WORK)
    ended = box.run(*options)
    assert ended.status == 0, ended
    assert box.verdicts() == {"test_work": "passed"}
    nothing_left(box)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_run_that_is_interrupted_ends_its_work(box: Life, number: signal.Signals) -> None:
    box.tests(LONG)
    process = box.pytest()
    folder = Path(box.note("started", process))
    assert folder.is_relative_to(place(box))
    assert box.left  # the work's processes
    assert box.end(process, number).status == 2
    nothing_left(box)


def test_a_run_that_is_killed_is_reaped(box: Life) -> None:
    box.tests(LONG)
    process = box.pytest()
    box.note("started", process)
    kill(process.pid)
    box.end(process)
    assert place(box).is_dir()
    assert box.left
    dry = box.cli("reap", "--dry-run")
    assert f"scratch path={place(box)}" in dry.text
    assert place(box).is_dir()
    assert box.cli("reap").status == 0
    nothing_left(box)


def test_the_next_run_clears_what_a_killed_one_left(box: Life) -> None:
    box.tests(LONG)
    process = box.pytest()
    box.note("started", process)
    kill(process.pid)
    box.end(process)
    box.tests(WORK)
    assert box.run().status == 0
    nothing_left(box)


def test_a_folder_that_was_there_is_refused_and_kept(box: Life) -> None:
    place(box).mkdir()
    (place(box) / "precious").write_text("x")
    box.tests(WORK)
    ended = box.run()
    assert (ended.status, ended.first_error) == (4, f"{place(box)}: exists already"), ended
    assert [path.name for path in place(box).iterdir()] == ["precious"]


def test_its_life_outside_pytest(box: Life) -> None:
    up = box.cli("up", "--cluster", "small.yaml")
    assert up.status == 0, up
    assert place(box).is_dir()
    assert f"pytest-ai-how exec --cluster {NAME} -- COMMAND" in up.text
    assert f"{NAME}: kept" in box.cli("status").text
    told = box.cli("exec", "--cluster", NAME, "--on", "compute", "--", "sh", "-c", "echo here")
    assert (told.status, told.text) == (0, "box: here\n")
    refused = box.cli("ssh", "--cluster", NAME, "box")
    assert (refused.status, "is not reached by ssh" in refused.errors) == (1, True), refused
    assert box.cli("down", "--cluster", NAME).status == 0
    nothing_left(box)


def test_it_is_not_ours_to_break(box: Life) -> None:
    box.tests("@pytest.mark.disruptive\ndef test_break(cluster):\n    told('broke')\n")
    box.run()
    assert box.verdicts() == {"test_break": "not_applicable"}
    assert not (box.folder / "broke").exists()
    assert box.run("--allow-disruptive").status == 0
    assert (box.folder / "broke").exists()
    nothing_left(box)


def test_an_interpreter_without_pytorch_says_what_to_do(box: Life) -> None:
    text = (box.folder / "small.yaml").read_text()
    (box.folder / "small.yaml").write_text(f"{text}python: {sys.executable}\n")
    box.tests("@pytest.mark.requires('pytorch')\ndef test_torch(pytorch):\n    assert pytorch\n")
    ended = box.run()
    assert box.verdicts() == {"test_torch": "broken"}
    assert f"{sys.executable}: lacks torch" in ended.text
    assert f"do: {sys.executable} -m pip install torch numpy scikit-learn tensorboard" in ended.text
    nothing_left(box)


def test_a_plan_makes_nothing(box: Life) -> None:
    box.tests(WORK)
    ended = box.run("--plan")
    assert ended.status == 0
    assert f"nothing is made but {place(box)}, a folder to work in, which is removed afterwards" in ended.text
    nothing_left(box)


# training


@pytest.mark.skipif("AI_HOW_PYTHON" not in os.environ, reason="AI_HOW_PYTHON names no interpreter with PyTorch")
def test_training_is_judged_and_nothing_is_left(box: Life) -> None:
    text = (box.folder / "small.yaml").read_text()
    (box.folder / "small.yaml").write_text(f"{text}python: {os.environ['AI_HOW_PYTHON']}\n")
    argv = (sys.executable, "-m", "pytest", str(ROOT / "suites/mlops/training"), "--cluster=small.yaml")
    ended = box.start(*argv, "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--reports={box.folder}/reports")
    out, _ = ended.communicate(timeout=400)
    assert ended.returncode == 0, out
    passed = {name for name, verdict in box.verdicts().items() if verdict == "passed"}
    assert passed >= {"test_data", "test_accuracy", "test_loss", "test_reload", "test_resume", "test_record"}
    nothing_left(box)


# whole phases


@pytest.fixture
def phases(box: Life) -> RunReport:
    suites = [str(ROOT / "suites" / phase) for phase in ("phase0", "phase1", "phase2", "phase3", "phase5", "phase6")]
    argv = (sys.executable, "-m", "pytest", *suites, "--cluster=small.yaml", "-p", "no:cacheprovider")
    ended = box.end(box.start(*argv, f"--rootdir={ROOT}", f"--reports={box.folder}/reports"))
    assert ended.status in (0, 1), ended
    nothing_left(box)
    [written] = (box.folder / "reports").glob("*/report.json")
    return load_report(written)


#: Rows that this host may fail: how full and how troubled it is, is nobody's mistake here.
OF_THE_HOST = {"INF-14", "INF-15", "STO-11", "E2E-17"}


def test_every_claim_of_the_phases_has_an_answer_or_is_not_applicable_by_name(phases: RunReport) -> None:
    rows = {row.row.id: row for row in phases.rows if row.nodeids}
    wrong = {
        name: (row.verdict, row.reason)
        for name, row in rows.items()
        if row.verdict not in (Verdict.PASSED, Verdict.NOT_APPLICABLE) and name not in OF_THE_HOST
    }
    assert wrong == {}
    passed = {name for name, row in rows.items() if row.verdict is Verdict.PASSED}
    assert passed >= {"PRV-01", "PRV-02", "PRV-03", "INF-01", "STO-12", "STO-16"}
    assert phases.verdict in (RunVerdict.FIT, RunVerdict.UNFIT)
    for name, row in rows.items():
        if row.verdict is Verdict.NOT_APPLICABLE:
            assert "capability '" in row.reason, name
