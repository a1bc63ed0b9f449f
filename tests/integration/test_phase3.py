"""Phase 3 as a person starts it: what any shared file system has to keep, on a cluster like ``configs/local.yaml``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ai_how.assets import asset
from pytest_ai_how.report.model import RunReport, Verdict
from pytest_ai_how.report.writer_json import load_report
from suites import phase3
from suites.phase6._inventory import difference, inventory
from tests.environment import clean_environment

NAME = "aihowp3"
#: What a directory of this host can be held to, and what only BeeGFS can.
GENERIC = {"STO-11", "STO-12", "STO-13", "STO-14", "STO-15", "STO-16", "STO-27", "STO-34"}
BEEGFS = {f"STO-{number:02}" for number in (*range(1, 11), 17, 26, 28, 29, 37, 38)}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], RunReport, list[str]]:
    """The run, its report, and what it left on the host."""
    folder = tmp_path_factory.mktemp("phase3")
    text = asset("configs/local.yaml").read_text().replace("10.78.0.", "10.91.0.").replace("aihow-local", "aihow-p3")
    text = text.replace("name: local", f"name: {NAME}", 1).replace("driver: auto", "driver: nspawn")
    (folder / "whole.yaml").write_text(text)
    before = inventory(NAME)
    suite = Path(str(phase3.__file__)).parent
    argv = [sys.executable, "-m", "pytest", str(suite), "-n2", "--cluster=whole.yaml", "--reports=reports"]
    done = subprocess.run(
        [*argv, "-p", "no:cacheprovider", f"--rootdir={suite.parents[1]}"],
        cwd=folder,
        env={**clean_environment(), "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    left = difference(before, inventory(NAME))
    [written] = (folder / "reports").glob("*/report.json")
    return done, load_report(written), left


def test_every_claim_on_storage_has_an_answer(
    ran: tuple[subprocess.CompletedProcess[str], RunReport, list[str]],
) -> None:
    done, report, _ = ran
    rows = {row.row.id: row.verdict for row in report.rows if row.row.phase == "phase3"}
    assert rows == {
        **dict.fromkeys(GENERIC, Verdict.PASSED),
        **dict.fromkeys(BEEGFS, Verdict.NOT_APPLICABLE),
    }, done.stdout[-5000:]
    assert (done.returncode, report.verdict) == (0, "fit"), done.stdout[-5000:]


def test_a_row_that_only_beegfs_can_answer_says_so(
    ran: tuple[subprocess.CompletedProcess[str], RunReport, list[str]],
) -> None:
    _, report, _ = ran
    reasons = {row.reason for row in report.rows if row.row.id in BEEGFS}
    assert len(reasons) == 1
    assert "capability 'beegfs' is absent: storage.kind is host-directory" in reasons.pop()


def test_nothing_is_left_on_the_host(ran: tuple[subprocess.CompletedProcess[str], RunReport, list[str]]) -> None:
    _, _, left = ran
    assert not left
