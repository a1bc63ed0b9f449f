"""MLOPS-3.2: Oumi evaluates the model as it was and as it became, with functions of ours, judged by what it left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.scales import Scale

from ._oumi import Oumi, Ran
from ._results import Results, parse_generations, parse_results

pytestmark = pytest.mark.requires("oumi", "shared-storage")

#: Prompts whose answers are kept.
PROMPTS = 3


def results(oumi: Oumi, ran: Ran, which: str, evidence: Evidence) -> Results:
    """What an evaluation found, attached."""
    text = oumi.read(ran.ended, f"{which}/results.json")
    evidence.attach(f"{which}/results.json", text, "application/json")
    return parse_results(text, f"{ran.ended.label}: {which}/results.json")


@pytest.mark.check("OUM-19")
def test_evaluation(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Both evaluations end well in the time that they may take, and Oumi's own record has what our functions found."""
    ran = oumi.evaluated()
    oumi.attach(ran, evidence)
    for which in ("base", "tuned"):
        found = results(oumi, ran, which, evidence)
        kept = oumi.launcher.query(
            "find",
            f"{oumi.folder}/{which}",
            "-name",
            "task_result.json",
            "-exec",
            "cat",
            "{}",
            ";",
            "-exec",
            "echo",
            ";",
        ).stdout
        evidence.attach(f"{which}: task_result.json", kept)
        told: dict[str, Any] = {}
        decoder, rest = json.JSONDecoder(), kept.strip()
        while rest:
            one, end = decoder.raw_decode(rest)
            told |= one.get("results", {})
            rest = rest[end:].strip()
        for task in ("ai_how_answers", "ai_how_perplexity"):
            wanted = getattr(found, task).model_dump(mode="json")
            assert told.get(task) == wanted, (
                f"{ran.ended.label}: {which}: Oumi has {told.get(task)} of {task}, the function found {wanted}"
            )
    seconds = ran.steps["base"].seconds + ran.steps["tuned"].seconds
    measure(scale.metric("oumi.evaluate.seconds"), seconds, "s", node=ran.ended.node, samples=2)


@pytest.mark.check("OUM-20")
def test_files(oumi: Oumi, evidence: Evidence) -> None:
    """The results are of their schema and of all that was held out, and there are answers to three prompts."""
    ran = oumi.evaluated()
    for which in ("base", "tuned"):
        where, found = f"{ran.ended.label}: {which}", results(oumi, ran, which, evidence)
        for task, wanted in (
            (found.ai_how_answers, oumi.work.held_out),
            (found.ai_how_perplexity, oumi.work.judged),
        ):
            assert task.samples == wanted, f"{where}: {task.samples} samples, expected {wanted}"
        text = oumi.read(ran.ended, f"{which}/generations.txt")
        evidence.attach(f"{which}/generations.txt", text)
        said = parse_generations(text)
        assert len(said) == PROMPTS, f"{where}/generations.txt: answers to {len(said)} prompts, expected {PROMPTS}"
        assert len({prompt for prompt, _ in said}) == PROMPTS, f"{where}/generations.txt: prompts are there twice"
    empty = [prompt for prompt, answer in said if not answer]
    assert not empty, f"{where}/generations.txt: the answer to {empty[0]!r} is empty"


@pytest.mark.check("OUM-21")
def test_perplexity(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """The perplexity of what was held out is a number within its limits."""
    ran = oumi.evaluated()
    found = results(oumi, ran, "tuned", evidence).ai_how_perplexity
    measure(scale.metric("oumi.perplexity"), found.perplexity, "count", node=ran.ended.node, samples=found.tokens)


@pytest.mark.check("OUM-22")
def test_tuned_against_base(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """Tuned, the model is no more surprised by what was held out than it was before, as a share of that."""
    ran = oumi.evaluated()
    base, tuned = (results(oumi, ran, which, evidence).ai_how_perplexity for which in ("base", "tuned"))
    assert base != tuned, f"{ran.ended.label}: tuned and base have one result, to the last digit; was it one model?"
    ratio = tuned.perplexity / base.perplexity
    measure(scale.metric("oumi.perplexity.vs_base"), ratio, "fraction", node=ran.ended.node, samples=tuned.tokens)


@pytest.mark.check("OUM-23")
def test_coherence(oumi: Oumi, scale: Scale, evidence: Evidence, measure: Measurements) -> None:
    """What is generated is text: printed, of some words, not one word over and over; BLEU and ROUGE-L are kept."""
    ran = oumi.evaluated()
    found = results(oumi, ran, "tuned", evidence).ai_how_answers
    for number, signs in enumerate(found.signs, 1):
        where = f"{ran.ended.label}: answer {number}"
        assert signs.words, f"{where} has no words"
        assert signs.unprintable == 0, f"{where}: {signs.unprintable:.0%} of it can't be printed"
    for name, value in (("bleu", found.bleu), ("rouge_l", found.rouge_l)):
        measure(scale.metric(f"oumi.{name}"), value, "fraction", node=ran.ended.node, samples=found.samples)
    repeated = max(signs.repeated for signs in found.signs)
    measure(scale.metric("oumi.repeated"), repeated, "fraction", node=ran.ended.node, samples=len(found.signs))
