"""Phase 2 as a person starts it: what Slurm's daemons and files have to be, on a cluster like ``local``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ai_how.assets import asset
from pytest_ai_how.report.model import Verdict
from pytest_ai_how.report.writer_json import load_report
from suites import phase2
from suites.phase6._inventory import difference, inventory
from tests.environment import clean_environment
from tests.unit.test_seen_to_fail import PHASES, rows

NAME = "aihowp2"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")


def test_every_claim_on_slurm_has_an_answer(tmp_path: Path) -> None:
    text = asset("configs/local.yaml").read_text().replace("10.78.0.", "10.97.0.").replace("aihow-local", "aihow-p2")
    text = text.replace("name: local", f"name: {NAME}", 1).replace("driver: auto", "driver: nspawn")
    (tmp_path / "whole.yaml").write_text(text)
    before = inventory(NAME)
    suite = Path(str(phase2.__file__)).parent
    argv = [sys.executable, "-m", "pytest", str(suite), "-n2", "--cluster=whole.yaml", "--reports=reports"]
    done = subprocess.run(
        [*argv, "-p", "no:cacheprovider", f"--rootdir={suite.parents[1]}"],
        cwd=tmp_path,
        env={**clean_environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not difference(before, inventory(NAME))
    [written] = (tmp_path / "reports").glob("*/report.json")
    report = load_report(written)
    answers = {row.row.id: row.verdict for row in report.rows if row.row.phase == "phase2"}
    ours = {check: answers[check] for check in rows(PHASES["phase2"])}
    assert ours == dict.fromkeys(ours, Verdict.PASSED), done.stdout[-5000:]
    assert (done.returncode, report.verdict) == (0, "fit"), done.stdout[-5000:]
