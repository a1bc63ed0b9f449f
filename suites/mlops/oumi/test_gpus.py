"""MLOPS-1.2, 2.2: what Oumi's trainings make of the GPUs that they are given."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from .._figures import deciding
from ._oumi import Oumi
from ._records import both_busy, gain, starved, watched

pytestmark = pytest.mark.requires("gpu.real", "oumi", "shared-storage")


@pytest.mark.check("OUM-09")
def test_memory(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """A fine-tuning does not run out of memory, and takes no more of its GPU's memory than it may."""
    ran = oumi.trained()
    for kind in ("out", "err"):
        text = oumi.read(ran.ended, f"train.{kind}")
        evidence.attach(f"train.{kind}", text)
        found = starved(text)
        assert not found, f"{ran.label}: train.{kind}: memory ran out: {found[0]!r}; expected that it does not"
    for seen in watched(oumi, ran, ["train"], 1, evidence).values():
        peak = max(100 * one.used / one.total for one in seen)
        measure(scale.metric("oumi.gpu.memory"), peak, "%", node=ran.ended.node, samples=len(seen))


@pytest.mark.check("OUM-11")
@pytest.mark.requires("gpu.pair", "scale.full")
def test_gain(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Two GPUs do more samples of the same work a second than one does; at smoke scale OUM-13 records it."""
    name = deciding(measure, scale.metric("oumi.gain"))
    factor = gain(oumi, scale, evidence, measure)
    measure(name, factor, "fraction", node=oumi.paired().ended.node, samples=oumi.plan.two.steps)


@pytest.mark.check("OUM-12")
@pytest.mark.requires("gpu.pair", "scale.full")
def test_utilisation(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """While two processes train, both GPUs are busy most of the time; at smoke scale OUM-10 records how much."""
    name = deciding(measure, scale.metric("oumi.gpu.utilisation"))
    both_busy(oumi, oumi.paired(), evidence, measure, name)
