"""Phase 3 on BeeGFS in virtual machines: the whole of it, faults and all.

BeeGFS is in no registry. Without its packages nothing here runs, and the run says that it was not put to the test.
"""

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

NAME = "aihowb3"
PACKAGES = Path(os.environ.get("BEEGFS_PACKAGES", "~/.cache/pytest-ai-how/beegfs")).expanduser()
# Figures that a busy machine changes; that they were measured and judged is asserted.
FIGURES = {"STO-13", "STO-26", "STO-27", "STO-28"}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="virtual machines of our own need root"),
    pytest.mark.skipif(
        not list(PACKAGES.glob("beegfs-*.deb")),
        reason=f"BeeGFS was not put to the test: no packages in {PACKAGES}; name their folder in BEEGFS_PACKAGES",
    ),
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], RunReport, list[str]]:
    """The run, its report, and what it left on the host."""
    folder = tmp_path_factory.mktemp("beegfs")
    text = asset("configs/beegfs.yaml").read_text().replace("10.79.0.", "10.92.0.").replace("aihow-beegfs", "aihow-b3")
    (folder / "whole.yaml").write_text(text.replace("name: beegfs", f"name: {NAME}", 1))
    before = inventory(NAME)
    suite = Path(str(phase3.__file__)).parent
    argv = [sys.executable, "-m", "pytest", str(suite), "--cluster=whole.yaml", "--reports=reports"]
    done = subprocess.run(
        [*argv, "-p", "no:cacheprovider", f"--rootdir={suite.parents[1]}"],
        cwd=folder,
        env={**clean_environment(), "XDG_STATE_HOME": str(folder / "state"), "BEEGFS_PACKAGES": str(PACKAGES)},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    left = difference(before, inventory(NAME))
    [written] = (folder / "reports").glob("*/report.json")
    return done, load_report(written), left


def test_every_claim_on_storage_holds(ran: tuple[subprocess.CompletedProcess[str], RunReport, list[str]]) -> None:
    done, report, _ = ran
    rows = {row.row.id: row for row in report.rows if row.row.phase == "phase3"}
    assert len(rows) == 24
    failed = {check: row.reason for check, row in rows.items() if row.verdict is not Verdict.PASSED}
    assert not failed.keys() - FIGURES, done.stdout[-5000:]
    assert all(", expected at " in reason for reason in failed.values()), failed


def test_nothing_is_left_on_the_host(ran: tuple[subprocess.CompletedProcess[str], RunReport, list[str]]) -> None:
    _, _, left = ran
    assert not left
