"""Phase 1 as a person runs it, on small virtual machines with directories of this host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_ai_how.drivers.libvirt.host import host_lacks
from pytest_ai_how.drivers.libvirt.names import tap_name
from pytest_ai_how.drivers.libvirt.virtiofs import virtiofsd
from suites.phase6._inventory import inventory
from tests.environment import clean_environment

from .sample import config

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a private libvirt daemon needs root"),
    pytest.mark.skipif(bool(host_lacks()), reason=f"driver libvirt {host_lacks()}"),
    pytest.mark.skipif(shutil.which("libvirtd") is None, reason="apt-get install libvirt-daemon"),
    pytest.mark.skipif(virtiofsd() is None, reason="apt-get install virtiofsd"),
]
NAME = "vmdirs"
#: What this cluster has none of: a cloud beside it, GPUs that compute, monitoring.
ABSENT = {"INF-17", *(f"INF-{number}" for number in (*range(19, 25), *range(27, 39)))}


def test_machines_with_directories_are_checked_for_real_and_leave_nothing(tmp_path: Path) -> None:
    data, documents = tmp_path / "data", tmp_path / "documents"
    for folder in (data, documents):
        folder.mkdir()
    data.chmod(0o750)
    whole = config(NAME, "10.68.3").model_dump(mode="json", exclude_none=True)
    whole["nodes"][1]["virtiofs"] = [
        {"tag": "data", "source": str(data), "mount": "/srv/data", "mode": "0750"},
        {"tag": "docs", "source": str(documents), "mount": "/srv/docs", "read_only": True},
    ]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(whole))
    options = ["-p", "no:cacheprovider", "--cluster=small.yaml", f"--reports={tmp_path / 'reports'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(ROOT / "suites/phase1")],
        cwd=tmp_path, env={**clean_environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    [report] = tmp_path.glob("reports/*/report.json")
    results = json.loads(report.read_text())["results"]
    absent = {id_ for one in results for id_ in one["ids"] if one["verdict"] == "not_applicable"}
    assert absent == ABSENT
    others = {id_: one["verdict"] for one in results for id_ in one["ids"] if id_ not in ABSENT}
    assert others == dict.fromkeys(others, "passed")
    assert {"INF-02", "INF-15", "INF-16", "INF-25", "INF-26"} <= others.keys()
    # Other clusters come and go meanwhile: what is looked for is what this one had.
    ours = (NAME, *(tap_name(NAME, node["name"]) for node in whole["nodes"]), str(tmp_path / "state"))
    assert [one for one in inventory(NAME) if any(word in one for word in ours)] == []
    assert list(data.iterdir()) == list(documents.iterdir()) == []
