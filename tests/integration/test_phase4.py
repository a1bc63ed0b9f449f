"""The life cycle of a cluster, as a person puts it to the test, on every kind of machine that can be made here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.drivers.select import nspawn_lacks
from pytest_ai_how.report.model import Verdict
from pytest_ai_how.report.writer_json import load_report
from suites import phase4
from suites.phase6._inventory import difference, inventory
from tests.environment import clean_environment

NAME = "aihowp4"
CONFIG = """\
version: 1
name: {name}
driver: {driver}
network: {{subnet: 10.91.0.0/24, bridge: aihow-p4}}
nodes:
  - {{name: controller, roles: [controller], address: 10.91.0.10, cpus: 1, memory: 768, disk: 4}}
  - {{name: node01, roles: [compute], address: 10.91.0.11, cpus: 1, memory: 512, disk: 4}}
storage: {{kind: none}}
containers: {{runtime: none}}
slurm: {{cluster: {name}, accounting: false, partitions: [{{name: debug, nodes: [node01], default: true}}]}}
"""
#: What only machines that are given a device of the host can show.
DEVICES = {"PRV-18", "PRV-19"}
# Without KVM too: then machines are emulated.
LACKS: dict[str, Callable[[], str]] = {"nspawn": nspawn_lacks, "libvirt": host_lacks}
# Seconds: emulated machines are booted eight times, each in half a minute, or two on a busy host.
WITHIN = {"nspawn": 600, "libvirt": 2400}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making machines needs root")


@pytest.mark.parametrize("driver", sorted(LACKS))
def test_the_whole_life_cycle(driver: str, tmp_path: Path) -> None:
    if lacking := LACKS[driver]():
        pytest.skip(f"driver {driver} {lacking}")
    (tmp_path / "whole.yaml").write_text(CONFIG.format(name=NAME, driver=driver))
    before = inventory(NAME)
    suite = Path(str(phase4.__file__)).parent
    argv = [sys.executable, "-m", "pytest", str(suite), "--cluster=whole.yaml", "--reports=reports"]
    done = subprocess.run(
        [*argv, "-p", "no:cacheprovider", f"--rootdir={suite.parents[1]}"],
        cwd=tmp_path,
        env={**clean_environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=WITHIN[driver],
        check=False,
    )
    assert not difference(before, inventory(NAME))
    [written] = (tmp_path / "reports").glob("*/report.json")
    rows = {row.row.id: row for row in load_report(written).rows if row.row.phase == "phase4"}
    written_rows = {check: row for check, row in rows.items() if row.verdict is not Verdict.MISSING}
    answers = {check: row.reason for check, row in written_rows.items() if row.verdict is not Verdict.PASSED}
    assert answers.keys() == DEVICES, done.stdout[-5000:]
    assert all("capability 'gpu.passthrough' is absent" in reason for reason in answers.values()), answers
    assert {check for check in written_rows if check.startswith("PRV")} == {
        *(f"PRV-{number}" for number in (*range(12, 21), 23, 24, 25))
    }
    assert done.returncode == 0, done.stdout[-5000:]
