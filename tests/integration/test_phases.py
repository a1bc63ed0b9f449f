"""The phases before the last one, as a person starts them: each claim has an answer, and nothing is left."""

from __future__ import annotations

import os

import pytest

from pytest_ai_how.report.model import Verdict

from .whole import Ran, run_whole

#: What is not applicable to machines that share this host's kernel, and whose GPUs are simulated.
ABSENT = {
    "phase0": {"PRV-07", "PRV-08"},
    "phase1": {
        *("INF-02", "INF-15", "INF-17", "INF-25", "INF-26"),
        *(f"INF-{number}" for number in (*range(19, 25), *range(32, 38))),
    },
    "phase2": set[str](),
    "phase5": {"CON-18", "TR2-02", "TR2-03"},
    "mlops/training": {"TR1-09", "TR1-13"},
    "mlops/distributed": {"TR2-06", "TR2-07", "TR2-12"},
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_whole(tmp_path_factory.mktemp("phases"), tuple(ABSENT), number=97, workers=3, within=1500)


@pytest.mark.parametrize("phase", ABSENT)
def test_every_claim_has_an_answer(ran: Ran, phase: str) -> None:
    assert ran.not_applicable(phase) == ABSENT[phase]
    others = {check: verdict for check, verdict in ran.rows(phase).items() if check not in ABSENT[phase]}
    assert others == dict.fromkeys(others, Verdict.PASSED), ran.end
    assert others


def test_the_cluster_is_fit(ran: Ran) -> None:
    assert (ran.done.returncode, ran.report.verdict) == (0, "fit"), ran.end


def test_nothing_is_left_on_the_host(ran: Ran) -> None:
    assert not ran.left
