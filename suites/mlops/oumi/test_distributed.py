"""MLOPS-2.2: a fine-tuning by two processes on two GPUs or two machines, through ``oumi distributed``.

Upstream joins processes by NCCL alone. Where no GPU computes, gloo is put in its place by an extension of ours
(payloads/gloo.py, named in OUMI_EXTRA_DEPS_FILE): what that shows is the way, and no figure of GPUs.
"""

from __future__ import annotations

import re

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from .._figures import recorded_only
from ._oumi import Oumi, Ran
from ._records import both_busy, gain, left
from ._state import ends, falls
from ._work import PROCESSES

pytestmark = pytest.mark.requires("slurm", "oumi", "shared-storage")

# What each process says when it has joined: NCCL's own words (2.2x, NCCL_DEBUG=INFO), or those of payloads/gloo.py.
_NCCL = r"ncclCommInitRank\w* comm \S+ rank (\d+) nranks (\d+)\b.*Init COMPLETE"
_GLOO = r"gloo in place of NCCL: rank (\d+) of (\d+)"


@pytest.mark.check("OUM-10")
def test_two_processes(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Two processes train one model, over NCCL where GPUs compute and over gloo elsewhere, and take all its steps."""
    ran, work = oumi.paired(), oumi.plan.two
    in_place(oumi, ran)
    said = {
        f"two-{number}/train.{kind}": oumi.read(ran.ended, f"two-{number}/train.{kind}")
        for number in range(len(ran.ended.nodes))
        for kind in ("out", "err")
    }
    for name, text in said.items():
        evidence.attach(name, text)
    kind, pattern = ("NCCL", _NCCL) if oumi.pair else ("gloo", _GLOO)
    joined = sorted(set(re.findall(pattern, "\n".join(said.values()))))
    expected = [(str(rank), str(PROCESSES)) for rank in range(PROCESSES)]
    assert joined == expected, f"{ran.label}: ranks {joined} joined by {kind}, expected {expected}"
    state = left(oumi, ran, "two", evidence)
    assert state.global_step == work.steps, f"{ran.label}: took {state.global_step} steps, expected {work.steps}"
    assert state.train_batch_size == work.share(PROCESSES), (
        f"{ran.label}: {state.train_batch_size} samples a step and process, expected {work.share(PROCESSES)}"
    )
    falls(state, ran.label)
    measure(scale.metric("oumi.two.seconds"), ran.steps["train"].seconds, "s", node=ran.ended.node, samples=work.steps)
    name = scale.metric("oumi.gpu.utilisation")
    if oumi.pair and recorded_only(measure, name):
        both_busy(oumi, ran, evidence, measure, name)


@pytest.mark.check("OUM-13")
def test_same_loss(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """In the end the loss is that of one process alone, as nearly as the order of samples lets it be."""
    (alone, folder), together = oumi.reference(), oumi.paired()
    one = ends(left(oumi, alone, folder, evidence).losses)[1]
    two = ends(left(oumi, together, "two", evidence).losses)[1]
    evidence.attach("loss in the end", f"one process {one:.4f}, two {two:.4f}")
    apart = abs(two - one) / one
    measure(scale.metric("oumi.two.loss.apart"), 100 * apart, "%", node=together.ended.node, samples=2)
    name = scale.metric("oumi.gain")
    if oumi.pair and recorded_only(measure, name):
        factor = gain(oumi, scale, evidence, measure)
        measure(name, factor, "fraction", node=together.ended.node, samples=oumi.plan.two.steps)


def in_place(oumi: Oumi, ran: Ran) -> None:
    """Hold a job of two processes to two GPUs, or to two machines where there are none that compute."""
    nodes, gpus = ran.ended.nodes, ran.ended.tres.get("gres/gpu", 0)
    if oumi.pair:
        assert gpus == PROCESSES, f"{ran.label}: the accounting has {gpus} GPUs for it, expected {PROCESSES}"
        return
    assert len(set(nodes)) == PROCESSES, f"{ran.label}: ran on {', '.join(nodes)}; expected {PROCESSES} machines"
