"""Fixtures of phase 6 only."""

from __future__ import annotations

import os

import pytest

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.skin.keys import CREW

from ._slurm_time_limit import begin


@pytest.fixture(scope="session", autouse=True)
def time_limit_job_begun(request: pytest.FixtureRequest) -> None:
    """Begin the job that SLU-18 collects when its minute is over, if that check is selected; by one worker only.

    Where there is no Slurm nothing is begun: to wait for it would take a minute and a half.
    """
    if CREW not in request.config.stash or request.config.stash[CREW].orders.why_absent("slurm"):
        return
    wanted = any(mark.args == ("SLU-18",) for item in request.session.items for mark in item.iter_markers("check"))
    if wanted and os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        try:
            begin(request.getfixturevalue("slurm"))
        except (AiHowError, AssertionError):
            # The check itself tries again and says why it can't; no other check is to suffer from it.
            return
