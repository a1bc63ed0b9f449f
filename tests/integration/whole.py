"""Whole phases as a person starts them, on a cluster like ``configs/local.yaml``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.assets import asset
from pytest_ai_how.report.model import RunReport, Verdict
from pytest_ai_how.report.writer_json import load_report
from suites.phase6._inventory import difference, inventory
from tests.environment import clean_environment
from tests.readme import ROOT


@dataclass(frozen=True, slots=True)
class Ran:
    """A run, its report, and what it left on the host."""

    done: subprocess.CompletedProcess[str]
    report: RunReport
    left: list[str]

    @property
    def end(self) -> str:
        """What it said last."""
        return self.done.stdout[-5000:]

    def rows(self, *phases: str) -> dict[str, Verdict]:
        """What became of each row of some phases."""
        return {row.row.id: row.verdict for row in self.report.rows if row.row.phase in phases}

    def not_applicable(self, *phases: str) -> set[str]:
        """The rows that the cluster lacks something for."""
        return {check for check, verdict in self.rows(*phases).items() if verdict is Verdict.NOT_APPLICABLE}


def run_whole(folder: Path, phases: Sequence[str], *, number: int, workers: int = 2, within: float = 600.0) -> Ran:
    """Run the phases on a cluster of their own, in the subnet 10.``number``.0.0/24, with their state in ``folder``."""
    name = f"aihowp{number}"
    text = asset("configs/local.yaml").read_text().replace("10.78.0.", f"10.{number}.0.")
    text = text.replace("aihow-local", f"aihow-p{number}").replace("driver: auto", "driver: nspawn")
    (folder / "whole.yaml").write_text(text.replace("name: local", f"name: {name}", 1))
    before = inventory(name)
    suites = [str(ROOT / "suites" / phase) for phase in phases]
    argv = [sys.executable, "-m", "pytest", *suites, f"-n{workers}", "--cluster=whole.yaml", "--reports=reports"]
    done = subprocess.run(
        [*argv, "-p", "no:cacheprovider", f"--rootdir={ROOT}"],
        cwd=folder,
        env={**clean_environment(), "XDG_STATE_HOME": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    left = difference(before, inventory(name))
    [written] = (folder / "reports").glob("*/report.json")
    return Ran(done, load_report(written), left)
