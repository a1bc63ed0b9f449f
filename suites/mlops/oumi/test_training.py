"""MLOPS-1.2: a supervised fine-tuning by Oumi on one machine, judged by what it left.

Where GPUs are simulated or none it is done by CPUs: what that shows of the way from data to answers is no figure of a
GPU.
"""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from ._oumi import Oumi
from ._state import falls, parse_state

pytestmark = pytest.mark.requires("oumi", "shared-storage")

#: What a checkpoint must have (transformers 5.16), and what the model that was left must have.
CHECKPOINT = ("config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth")
MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.check("OUM-05")
def test_time(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """The fine-tuning takes all its steps in the time that it may take."""
    ran = oumi.trained()
    oumi.attach(ran, evidence)
    state = parse_state(oumi.read(ran.ended, "sft/trainer_state.json"), f"{ran.ended.label}: sft/trainer_state.json")
    assert state.global_step == oumi.work.steps, (
        f"{ran.ended.label}: took {state.global_step} steps, expected {oumi.work.steps}: {oumi.work.epochs} epochs of "
        f"{oumi.work.samples} samples by {oumi.work.batch}"
    )
    seconds = ran.steps["train"].seconds
    measure(scale.metric("oumi.sft.seconds"), seconds, "s", node=ran.ended.node, samples=oumi.work.steps)


@pytest.mark.check("OUM-06")
def test_loss(oumi: Oumi, evidence: Evidence) -> None:
    """The loss is a number at each step, and lower in the end."""
    ran = oumi.trained()
    text = oumi.read(ran.ended, "sft/trainer_state.json")
    evidence.attach("trainer_state.json", text, "application/json")
    start, end = falls(parse_state(text, f"{ran.ended.label}: sft/trainer_state.json"), ran.ended.label)
    evidence.attach("loss", f"from {start:.4f} to {end:.4f}")


@pytest.mark.check("OUM-07")
def test_checkpoints(oumi: Oumi, evidence: Evidence) -> None:
    """Each checkpoint is whole and tells its step; the last is of the last step; the model lies beside them."""
    ran = oumi.trained()
    where, work = ran.ended.label, oumi.work
    listed = oumi.launcher.query("find", f"{oumi.folder}/sft", "-type", "f", "-printf", r"%P\t%s\n").stdout
    evidence.attach("files", listed)
    files = {name: int(size) for name, _, size in (line.partition("\t") for line in listed.splitlines())}
    steps = [*range(work.checkpoint, work.steps, work.checkpoint), work.steps]
    for step in steps:
        for name in CHECKPOINT:
            assert files.get(f"checkpoint-{step}/{name}"), f"{where}: sft/checkpoint-{step}/{name} is missing or empty"
        text = oumi.read(ran.ended, f"sft/checkpoint-{step}/trainer_state.json")
        state = parse_state(text, f"{where}: sft/checkpoint-{step}/trainer_state.json")
        assert state.global_step == step, f"{where}: checkpoint-{step} is of step {state.global_step}"
    for name in MODEL:
        assert files.get(name), f"{where}: sft/{name} is missing or empty"


@pytest.mark.check("OUM-08")
def test_generation(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """A new process loads the model that was left, and it answers each prompt."""
    ran = oumi.evaluated()
    text = oumi.read(ran.ended, "answers.jsonl")
    evidence.attach("answers.jsonl", text)
    prompts = [json.loads(line) for line in oumi.read(ran.ended, f"{oumi.work.data_folder}/prompts.jsonl").splitlines()]
    answers = [json.loads(line)["messages"] for line in text.splitlines()]
    assert prompts, f"{ran.ended.label}: there are no prompts"
    assert len(answers) == len(prompts), f"{ran.ended.label}: {len(answers)} answers to {len(prompts)} prompts"
    for asked, messages in zip(prompts, answers, strict=True):
        prompt, last = asked["messages"][0]["content"], messages[-1]
        assert last["role"] == "assistant", f"{ran.ended.label}: {prompt!r} has no answer: {messages}"
        assert str(last["content"]).strip(), f"{ran.ended.label}: the answer to {prompt!r} is empty"
    seconds = ran.steps["infer"].seconds
    measure(scale.metric("oumi.infer.seconds"), seconds, "s", node=ran.ended.node, samples=len(answers))


@pytest.mark.check("OUM-26")
def test_without_gpu(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Data, training, evaluation, answers: the whole way is gone on CPUs by a tiny model, which has learnt its task."""
    oumi = oumi.without_gpu()
    made, trained, judged = oumi.looked(), oumi.trained(), oumi.evaluated()
    for ran in (made, trained, judged):
        oumi.attach(ran, evidence)
        for step in ran.steps.values():
            assert step.status == 0, f"{ran.ended.label}: step {step.name} ended with {step.status}"
    said = oumi.read(trained.ended, "train.out") + oumi.read(trained.ended, "train.err")
    assert "cuda:" not in said, f"{trained.ended.label}: trained on a GPU; expected CPUs"
    result = json.loads(oumi.read(judged.ended, "tuned/results.json"))
    share = 100 * result["ai_how_answers"]["exact"]
    measure(scale.metric("oumi.exact"), share, "%", node=judged.ended.node, samples=result["ai_how_answers"]["samples"])
    peak = max(step.peak for ran in (made, trained, judged) for step in ran.steps.values())
    measure(scale.metric("oumi.peak"), peak, "MiB", node=trained.ended.node)
