"""Phase 3 as a person starts it: what any shared file system has to keep, on a cluster like ``configs/local.yaml``."""

from __future__ import annotations

import os

import pytest

from pytest_ai_how.report.model import Verdict

from .whole import Ran, run_whole

#: What a directory of this host can be held to, and what only BeeGFS can.
GENERIC = {"STO-11", "STO-12", "STO-13", "STO-14", "STO-15", "STO-16", "STO-27", "STO-34"}
BEEGFS = {f"STO-{number:02}" for number in (*range(1, 11), 17, 26, 28, 29, 37, 38)}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run_whole(tmp_path_factory.mktemp("phase3"), ["phase3"], number=91)


def test_every_claim_on_storage_has_an_answer(ran: Ran) -> None:
    assert ran.rows("phase3") == {
        **dict.fromkeys(GENERIC, Verdict.PASSED),
        **dict.fromkeys(BEEGFS, Verdict.NOT_APPLICABLE),
    }, ran.end
    assert (ran.done.returncode, ran.report.verdict) == (0, "fit"), ran.end


def test_a_row_that_only_beegfs_can_answer_says_so(ran: Ran) -> None:
    reasons = {row.reason for row in ran.report.rows if row.row.id in BEEGFS}
    assert len(reasons) == 1
    assert "capability 'beegfs' is absent: storage.kind is host-directory" in reasons.pop()


def test_nothing_is_left_on_the_host(ran: Ran) -> None:
    assert not ran.left
