"""TASK-059: an adapter (LoRA) trained by Oumi, with its own configuration of peft, and exported alone."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from ._json import parsed
from ._oumi import Oumi
from ._records import left, watched
from ._state import falls
from ._work import PROCESSES

pytestmark = pytest.mark.requires("oumi", "shared-storage")


class Exported(BaseModel):
    """``adapter_config.json`` of peft, as far as it is judged."""

    r: int
    lora_alpha: int
    peft_type: str


@pytest.mark.check("OUM-24")
def test_adapter(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """An adapter is trained in its time, what was held out surprises it less, and it is exported without the model."""
    ran, work = oumi.adapted(), oumi.plan.lora
    state, node = left(oumi, ran, "lora", evidence), ran.ended.node
    assert state.global_step == work.steps, f"{ran.label}: took {state.global_step} steps, expected {work.steps}"
    falls(state, ran.label)
    losses = state.evaluations
    assert len(losses) == work.epochs, f"{ran.label}: judged {len(losses)} times, expected after each of {work.epochs}"
    assert all(map(math.isfinite, losses)), f"{ran.label}: the losses of what was held out are {losses}; not numbers"
    _exported(oumi, evidence)
    (step,) = ran.steps.values()
    measure(scale.metric("oumi.lora.seconds"), step.seconds, "s", node=node, samples=work.steps)
    if oumi.real:
        files, gpus = ["train-lora"], 1
        if oumi.pair:
            files, gpus = [f"lora-{number}/train" for number in range(len(ran.ended.nodes))], PROCESSES
        for seen in watched(oumi, ran, files, gpus, evidence).values():
            peak = max(one.used for one in seen)
            measure(scale.metric("oumi.lora.gpu.memory"), float(peak), "MiB", node=node, samples=len(seen))
    measure(scale.metric("oumi.lora.eval_loss"), losses[-1], "count", node=node, samples=work.held_out)


def _exported(oumi: Oumi, evidence: Evidence) -> None:
    """Hold what was exported to being the adapter that was asked for, and no model."""
    ran, work = oumi.adapted(), oumi.plan.lora
    listed = oumi.launcher.query("find", f"{oumi.folder}/lora", "-maxdepth", "1", "-type", "f", "-printf", r"%P\t%s\n")
    evidence.attach("files", listed.stdout)
    files = {name: int(size) for name, _, size in (line.partition("\t") for line in listed.stdout.splitlines())}
    assert files.get("adapter_model.safetensors"), f"{ran.label}: lora/adapter_model.safetensors is missing or empty"
    assert "model.safetensors" not in files, f"{ran.label}: exported the whole model; expected the adapter alone"
    text = oumi.read(ran.ended, "lora/adapter_config.json")
    evidence.attach("adapter_config.json", text, "application/json")
    found = parsed(Exported, text, f"{ran.label}: lora/adapter_config.json", "what peft exports")
    wanted = Exported(r=work.rank, lora_alpha=work.alpha, peft_type="LORA")
    assert found == wanted, f"{ran.label}: exported {found}, expected {wanted}"
