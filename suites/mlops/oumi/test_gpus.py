"""MLOPS-1.2, 2.2: what Oumi's trainings make of the GPUs that they are given."""

from __future__ import annotations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from .._gpus import at_work, if_recorded, judge
from ._oumi import PROCESSES, Oumi
from ._records import rate, starved, watched

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
@pytest.mark.requires("gpu.pair")
def test_gain(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Two GPUs do more samples of the same work a second than one does."""
    (alone, folder), together = oumi.reference(), oumi.paired()
    one = rate(oumi, alone, folder, 1, evidence)
    two = rate(oumi, together, "two", PROCESSES, evidence)
    evidence.attach("samples a second", f"1 process    {one:.1f}\n{PROCESSES} processes  {two:.1f}")
    name = scale.metric("oumi.gain")
    if_recorded(evidence, measure, name)
    measure(scale.metric("oumi.rate.one"), one, "samples/s", node=alone.ended.node, samples=oumi.plan.two.steps)
    measure(scale.metric("oumi.rate.two"), two, "samples/s", node=together.ended.node, samples=oumi.plan.two.steps)
    measure(name, two / one, "fraction", node=together.ended.node, samples=oumi.plan.two.steps)


@pytest.mark.check("OUM-12")
@pytest.mark.requires("gpu.pair")
def test_utilisation(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """While two processes train, both GPUs are busy most of the time."""
    ran = oumi.paired()
    files = [f"two-{number}/train" for number in range(len(ran.ended.nodes))]
    for uuid, seen in watched(oumi, ran, files, PROCESSES, evidence).items():
        metric = scale.metric("oumi.gpu.utilisation")
        judge(evidence, measure, metric, at_work(seen), f"{ran.label}, {uuid}", ran.ended.node)
