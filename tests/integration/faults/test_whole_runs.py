"""Faults shown to the whole product, as its user runs it: exactly one check of a run is red."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from suites.phase6 import _nested
from tests.environment import clean_environment

from .cases import (
    NEEDED,
    apptainer_conf,
)
from .inject import (
    APPTAINER_CONF,
    CATALOG,
    SIF,
    Inject,
    edited,
    everywhere,
    shared_file,
    shell,
)
from .live import Live

pytestmark = NEEDED

SELECTED = ("SLU-31", "SLU-40", "STO-32", "CON-02")
WHOLE = [
    pytest.param(
        "SLU-31",
        "node02: Slurm has gres/gpu=2, the node has 1 GPU devices",
        shell("node02", "rm /dev/fakegpu1", "mknod -m 0666 /dev/fakegpu1 c 240 1"),
        id="SLU-31",
        marks=pytest.mark.seen_to_fail("SLU-31"),
    ),
    pytest.param(
        "SLU-40",
        r"node0\d: /var/log/slurm/prolog\.log has 0 lines for job \d+, expected one",
        everywhere(
            lambda node: edited(node, "/usr/lib/ai-how/prolog", "/var/log/slurm/prolog.log", "/dev/null"),
            "node01",
            "node02",
        ),
        id="SLU-40",
        marks=pytest.mark.seen_to_fail("SLU-40"),
    ),
    pytest.param(
        "STO-32",
        f"controller: {SIF} has sha256 ",
        shared_file(CATALOG, f"sed -i 's/sha256:..../sha256:0000/' {CATALOG}"),
        id="STO-32",
        marks=pytest.mark.seen_to_fail("STO-32"),
    ),
    pytest.param(
        "CON-02",
        f"node02: {APPTAINER_CONF}: 'allow setuid' is yes; expected no",
        apptainer_conf("allow setuid", "no", "yes"),
        id="CON-02",
        marks=pytest.mark.seen_to_fail("CON-02"),
    ),
]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of pytest: its status, what it printed, and the verdicts and reasons of its report by check."""

    status: int
    text: str
    verdict: str
    verdicts: dict[str, str]
    reasons: dict[str, str]


def run(live: Live, folder: Path, selected: tuple[str, ...] = SELECTED) -> Ended:
    """Run the selected checks on the kept cluster, in a process of pytest of its own."""
    clean = clean_environment()
    argv = [
        *_nested.selecting(folder, selected),
        f"--cluster={live.file}",
        "--cluster-keep=always",
        f"--reports={folder}",
    ]
    done = subprocess.run(argv, cwd=folder, env=clean, capture_output=True, text=True, timeout=120, check=False)
    (written,) = folder.glob("*/report.json")
    report = json.loads(written.read_text())
    results = {one["ids"][0]: one for one in report["results"]}
    return Ended(
        done.returncode,
        done.stdout,
        report["verdict"],
        {check: one["verdict"] for check, one in results.items()},
        {check: one["reason"] for check, one in results.items()},
    )


@pytest.mark.parametrize(("check", "says", "inject"), WHOLE)
def test_exactly_one_check_of_a_run_is_red(live: Live, tmp_path: Path, check: str, says: str, inject: Inject) -> None:
    with inject(live):
        ended = run(live, tmp_path)
    live.settle()
    assert ended.verdicts == {one: "failed" if one == check else "passed" for one in SELECTED}, ended.text
    assert (ended.status, ended.verdict) == (1, "unfit")
    assert re.match(says, ended.reasons[check]), ended.reasons[check]
    assert re.search(rf"^(E +)?(AssertionError: )?{says}", ended.text, re.MULTILINE), ended.text


@pytest.mark.seen_to_fail("SLU-08")
def test_a_drained_node_is_a_failed_check_and_not_a_bring_up_that_waits(live: Live, tmp_path: Path) -> None:
    update = ("scontrol", "update", "nodename=node02")
    live.cluster.controller.run(*update, "state=drain", "reason=fan broken")
    try:
        ended = run(live, tmp_path, ("SLU-08", "STO-30"))
    finally:
        live.cluster.controller.run(*update, "state=resume")
    assert ended.verdicts == {"SLU-08": "failed", "STO-30": "passed"}, ended.text
    assert (ended.status, ended.verdict) == (1, "unfit")
    assert ended.reasons["SLU-08"].startswith("node02: state IDLE+DRAIN, reason 'fan broken'; expected IDLE or MIXED")


def test_the_mended_cluster_is_fit(live: Live, tmp_path: Path) -> None:
    ended = run(live, tmp_path)
    assert ended.verdicts == dict.fromkeys(SELECTED, "passed"), ended.text
    assert (ended.status, ended.verdict) == (0, "fit")
