"""MLOPS-2.2: a fine-tuning by two processes on two machines, through ``oumi distributed``.

Upstream joins processes by NCCL alone. Where no GPU computes, gloo is put in its place by an extension of ours
(payloads/gloo.py, named in OUMI_EXTRA_DEPS_FILE): what that shows is the way, and no figure of GPUs.
"""

from __future__ import annotations

import re

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from ._oumi import Oumi
from ._state import State, ends, falls, parse_state

pytestmark = pytest.mark.requires("slurm", "oumi", "shared-storage")

PROCESSES = 2


def state_of(oumi: Oumi, folder: str, evidence: Evidence) -> State:
    """What a training left, attached."""
    ran = oumi.paired() if folder == "two" else oumi.trained()
    text = oumi.read(ran.ended, f"{folder}/trainer_state.json")
    evidence.attach(f"{folder}/trainer_state.json", text, "application/json")
    return parse_state(text, f"{ran.ended.label}: {folder}/trainer_state.json")


@pytest.mark.check("OUM-10")
def test_two_processes(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Two processes on two machines train one model, over gloo where no GPU computes, and take all its steps."""
    ran, work = oumi.paired(), oumi.work
    nodes = ran.ended.nodes
    assert len(set(nodes)) == PROCESSES, f"{ran.ended.label}: ran on {', '.join(nodes)}; expected {PROCESSES} machines"
    said = [
        oumi.read(ran.ended, f"two-{number}/train.{kind}") for number in range(PROCESSES) for kind in ("out", "err")
    ]
    for number, text in enumerate(said):
        evidence.attach(f"two-{number // 2}/train.{('out', 'err')[number % 2]}", text)
    joined = sorted(re.findall(r"gloo in place of NCCL: rank (\d+) of (\d+)", "\n".join(said)))
    expected = [(str(rank), str(PROCESSES)) for rank in range(PROCESSES)]
    assert joined == expected, f"{ran.ended.label}: ranks {joined} joined by gloo, expected {expected}"
    state = state_of(oumi, "two", evidence)
    assert state.global_step == work.steps, f"{ran.ended.label}: took {state.global_step} steps, expected {work.steps}"
    assert state.train_batch_size * PROCESSES == work.batch, (
        f"{ran.ended.label}: {state.train_batch_size} samples a step and process, expected {work.batch // PROCESSES}"
    )
    falls(state, ran.ended.label)
    measure(scale.metric("oumi.two.seconds"), ran.steps["train"].seconds, "s", node=nodes[0], samples=work.steps)


@pytest.mark.check("OUM-13")
def test_same_loss(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """In the end the loss is that of one process alone, as nearly as the order of samples lets it be."""
    one, two = (ends(state_of(oumi, folder, evidence).losses)[1] for folder in ("sft", "two"))
    evidence.attach("loss in the end", f"one process {one:.4f}, two {two:.4f}")
    apart = abs(two - one) / one
    measure(scale.metric("oumi.two.loss.apart"), 100 * apart, "%", node=oumi.paired().ended.node, samples=2)
