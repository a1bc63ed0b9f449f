"""TASK-048: whoever waits for a daemon learns in time that it is ready, or why it is not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements

from ._readiness import CASES, Tried


@pytest.mark.check("INF-42")
@pytest.mark.requires("owned")
def test_readiness_is_told(waits: Mapping[str, Tried], probed: str, evidence: Evidence, measure: Measurements) -> None:
    """A daemon whose unit, port and probe are well is ready; each that is not is given up in time, and told why.

    They are made for the purpose on a machine of the cluster: one well, one for each way not to be.
    """
    for name, wait in waits.items():
        evidence.attach(f"{probed}: {name}", f"{wait.seconds:.2f} s\n{wait.said or 'ready'}")
    missing = [name for name in CASES if name not in waits]
    assert not missing, f"{probed}: {missing[0]!r} was not tried; expected {', '.join(CASES)}"
    for name, words in CASES.items():
        said = waits[name].said
        if not words:
            assert not said, f"{probed}: a daemon that is well is not told to be ready: {said}"
            continue
        assert said, f"{probed}: {name!r} is told to be ready, expected a reason with {words[0]!r}"
        first = said.splitlines()[0]
        assert first.startswith(f"{probed}: "), f"{probed}: {name!r} does not name the machine first: {first}"
        lacking = [word for word in words if word not in first]
        assert not lacking, f"{probed}: {name!r} is told as: {first}; expected it to say {lacking[0]!r}"
    for name in CASES:
        measure("readiness.told", waits[name].seconds, "s", node=f"{probed}, {name}")
