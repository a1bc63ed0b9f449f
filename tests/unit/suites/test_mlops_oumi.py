"""Oumi's checks of environment, training, evaluation and processes go red for the right reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.scales import Scale, load_scale
from suites.mlops.oumi import test_distributed as distributed
from suites.mlops.oumi import test_environment as environment
from suites.mlops.oumi import test_evaluation as evaluation
from suites.mlops.oumi import test_training as training

from .oumi_fakes import WHEELS, WORK, generations, look, oumi, results, schema, state


@pytest.fixture
def scale() -> Scale:
    return load_scale("smoke")


# The environment


@pytest.mark.seen_to_fail("OUM-01")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"versions": WHEELS | {"trl": "0.1"}}, rf"trl is 0\.1, the lock has {WHEELS['trl']}"),
        ({"versions": {}}, "absl-py is not there, the lock has"),
        ({"prefix": "/usr"}, "the interpreter is of /usr, expected /venv"),
        ({"status": 1}, "`oumi --help` ended with 1, expected 0"),
        ({"help": "train evaluate infer"}, "`oumi --help` names no command launch"),
        ({"api": ["train"]}, "the module oumi has no function evaluate"),
    ],
)
def test_another_environment(changes: dict[str, Any], message: str, evidence: Evidence) -> None:
    environment.test_version(oumi(), evidence)
    with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-look\): {message}"):
        environment.test_version(oumi({"look.out": look(**changes)}), evidence)


@pytest.mark.seen_to_fail("OUM-02")
def test_configurations_that_are_wrong_or_taken_for_right(evidence: Evidence) -> None:
    environment.test_configurations(oumi(), evidence)
    for said, message in (
        (
            schema(train="OumiConfigParsingError: Key 'x'"),
            r"train\.yaml: OumiConfigParsingError: Key 'x'; expected nothing",
        ),
        (
            schema(train_wrong_type=""),
            r"nothing is wrong with train-wrong-type\.yaml, which was broken; expected a word",
        ),
        (
            schema(train_unknown_key="ImportError: no"),
            r"train-unknown-key\.yaml: 'ImportError: no'; expected that it nam",
        ),
        ("{}", r"train\.yaml was not looked at"),
    ):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-look\): {message}"):
            environment.test_configurations(oumi({"schema.out": said}), evidence)


@pytest.mark.seen_to_fail("OUM-03")
def test_modules_that_do_not_load(evidence: Evidence) -> None:
    environment.test_modules(oumi(), evidence)
    for module, message in (
        ({"version": "", "error": "ImportError: no torch"}, "import trl: ImportError: no torch"),
        ({"version": "0.1", "error": ""}, rf"trl says that it is 0\.1, its package is {WHEELS['trl']}"),
    ):
        found = json.loads(look())["modules"] | {"trl": module}
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-look\): {message}"):
            environment.test_modules(oumi({"look.out": look(modules=found)}), evidence)


@pytest.mark.seen_to_fail("OUM-04")
@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"interfaces": ["eth0", "lo"], "answers": {}}, r"the training saw \['eth0', 'lo'\], expected lo alone"),
        ({"interfaces": ["lo"], "answers": {}}, "no address was tried"),
        (
            {"interfaces": ["lo"], "answers": {"192.0.2.1": "EAGAIN"}},
            r"192\.0\.2\.1 answered EAGAIN; expected that there",
        ),
    ],
)
def test_a_training_with_a_network(found: dict[str, Any], message: str, evidence: Evidence) -> None:
    environment.test_offline(oumi(), evidence)
    with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-sft\): {message}"):
        environment.test_offline(oumi({"alone.json": json.dumps(found)}), evidence)
    with pytest.raises(AssertionError, match="the training ended with 1"):
        environment.test_offline(oumi(status=1), evidence)


# Training


@pytest.mark.seen_to_fail("OUM-05")
def test_a_training_that_is_slow_or_short(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    training.test_time(oumi(), scale, evidence, measure)
    with pytest.raises(
        AssertionError, match=r"^node01: job 7 \(oumi-sft\): took 79 steps, expected 80: 2 epochs of 640"
    ):
        training.test_time(oumi({"sft/trainer_state.json": state(79)}), scale, evidence, measure)
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.sft\.seconds\.smoke is 1801 s, expected at most 1800 s"):
        training.test_time(oumi(seconds=1801), scale, evidence, measure)


@pytest.mark.seen_to_fail("OUM-06")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (state(losses=[(5, 2.0), (10, 1.95)]), r"the loss went from 2\.0000 to 1\.9500; expected that it falls by 5%"),
        (state(losses=[(5, 2.0), (10, float("nan"))]), "the loss is nan at step 10; expected a number"),
        (state(losses=[(5, 2.0)]), "logged 1 losses; expected one every few steps"),
        ("{", "sft/trainer_state.json: the file: Invalid JSON"),
        ("{}", "sft/trainer_state.json: epoch: Field required"),
    ],
)
def test_a_loss_that_does_not_fall(text: str, message: str, evidence: Evidence) -> None:
    training.test_loss(oumi(), evidence)
    with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-sft\): {message}"):
        training.test_loss(oumi({"sft/trainer_state.json": text}), evidence)


@pytest.mark.seen_to_fail("OUM-07")
def test_checkpoints_that_are_not_whole(evidence: Evidence) -> None:
    training.test_checkpoints(oumi(), evidence)
    for name in ("checkpoint-40/optimizer.pt", "checkpoint-80/model.safetensors", "tokenizer.json"):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-sft\): sft/{name} is missing or empty"):
            training.test_checkpoints(oumi(listed={name: 0}), evidence)
    with pytest.raises(AssertionError, match="checkpoint-80 is of step 40"):
        training.test_checkpoints(oumi({"sft/checkpoint-80/trainer_state.json": state(40)}), evidence)


@pytest.mark.seen_to_fail("OUM-08")
def test_a_model_that_does_not_answer(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    training.test_generation(oumi(), scale, evidence, measure)
    asked = {"role": "user", "content": "say a"}
    for messages, message in (
        ([asked], "'say a' has no answer"),
        ([asked, {"role": "assistant", "content": " "}], "the answer to 'say a' is empty"),
    ):
        text = (json.dumps({"messages": messages}) + "\n") * 3
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-evaluate\): {message}"):
            training.test_generation(oumi({"answers.jsonl": text}), scale, evidence, measure)
    with pytest.raises(AssertionError, match="0 answers to 3 prompts"):
        training.test_generation(oumi({"answers.jsonl": ""}), scale, evidence, measure)
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.infer\.seconds\.smoke is 61 s, expected at most 60 s"):
        training.test_generation(oumi(seconds=61), scale, evidence, measure)


@pytest.mark.seen_to_fail("OUM-26")
def test_a_way_that_is_not_gone_to_its_end(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    training.test_without_gpu(oumi(), scale, evidence, measure)
    with pytest.raises(AssertionError, match=r"^node01: job 7 \(oumi-look\): step tiny ended with 1"):
        training.test_without_gpu(oumi(status=1), scale, evidence, measure)
    with pytest.raises(AssertionError, match=r"^node01: job 7 \(oumi-sft\): trained on a GPU; expected CPUs"):
        training.test_without_gpu(oumi({"train.err": "moved to cuda:0"}), scale, evidence, measure)
    unlearnt = {"tuned/results.json": json.dumps(results(1.5, 0.1))}
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.exact\.smoke is 10 %, expected at least 50 %"):
        training.test_without_gpu(oumi(unlearnt), scale, evidence, measure)


# Evaluation


@pytest.mark.seen_to_fail("OUM-19")
def test_evaluations_that_tell_two_things(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    evaluation.test_evaluation(oumi(), scale, evidence, measure)
    other = {"ai_how_perplexity": {"samples": 24, "tokens": 96, "perplexity": 9.0}}
    with pytest.raises(
        AssertionError, match=r"^node01: job 7 \(oumi-evaluate\): base: Oumi has .*9\.0.* the function fou"
    ):
        evaluation.test_evaluation(oumi(kept=other), scale, evidence, measure)
    with pytest.raises(
        LimitExceeded, match=r"^node01: oumi\.evaluate\.seconds\.smoke is 902 s, expected at most 900 s"
    ):
        evaluation.test_evaluation(oumi(seconds=451), scale, evidence, measure)


@pytest.mark.seen_to_fail("OUM-20")
def test_results_that_are_not_whole(evidence: Evidence) -> None:
    evaluation.test_files(oumi(), evidence)
    for name, text, message in (
        ("base/results.json", "{}", r"base/results\.json: ai_how_answers: Field required"),
        (
            "tuned/results.json",
            json.dumps(results(0.5, 1.0)),
            r"tuned/results\.json: ai_how_perplexity\.perplexity: Input",
        ),
        ("tuned/generations.txt", generations("a", "b"), r"tuned/generations\.txt: answers to 2 prompts, expected 3"),
        ("tuned/generations.txt", generations("a", "b", ""), r"tuned/generations\.txt: the answer to 'say 2' is empty"),
        ("tuned/generations.txt", '### "say 0"\na\n' * 3, r"tuned/generations\.txt: prompts are there twice"),
    ):
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-evaluate\): {message}"):
            evaluation.test_files(oumi({name: text}), evidence)
    few = results(1.5, 0.9)
    few["ai_how_answers"] |= {"samples": 3}
    with pytest.raises(AssertionError, match="tuned: 3 samples, expected 24"):
        evaluation.test_files(oumi({"tuned/results.json": json.dumps(few)}), evidence)


@pytest.mark.seen_to_fail("OUM-21")
def test_a_model_that_is_surprised(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    evaluation.test_perplexity(oumi(), scale, evidence, measure)
    surprised = oumi({"tuned/results.json": json.dumps(results(11.0, 0.9))})
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.perplexity\.smoke is 11 count, expected at most 10"):
        evaluation.test_perplexity(surprised, scale, evidence, measure)
    endless = {"tuned/results.json": json.dumps(results(float("inf"), 0.9))}
    with pytest.raises(AssertionError, match=r"perplexity: Input should be a finite number"):
        evaluation.test_perplexity(oumi(endless), scale, evidence, measure)


@pytest.mark.seen_to_fail("OUM-22")
def test_a_model_that_became_worse(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    evaluation.test_tuned_against_base(oumi(), scale, evidence, measure)
    worse = oumi({"base/results.json": json.dumps(results(1.2, 0.9))})
    with pytest.raises(
        LimitExceeded, match=r"^node01: oumi\.perplexity\.vs_base\.smoke is 1\.25 fraction, expected at m"
    ):
        evaluation.test_tuned_against_base(worse, scale, evidence, measure)
    same = {"base/results.json": json.dumps(results(1.5, 0.9))}
    with pytest.raises(AssertionError, match="tuned and base have one result, to the last digit"):
        evaluation.test_tuned_against_base(oumi(same), scale, evidence, measure)


@pytest.mark.seen_to_fail("OUM-23")
def test_answers_that_are_no_text(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    evaluation.test_coherence(oumi(), scale, evidence, measure)
    for signs, message in (
        ({"words": 0, "repeated": 0.0, "unprintable": 0.0}, "answer 1 has no words"),
        ({"words": 3, "repeated": 0.0, "unprintable": 0.2}, "answer 1: 20% of it can't be printed"),
    ):
        found = results(1.5, 0.9)
        found["ai_how_answers"] |= {"signs": [signs]}
        with pytest.raises(AssertionError, match=rf"^node01: job 7 \(oumi-evaluate\): {message}"):
            evaluation.test_coherence(oumi({"tuned/results.json": json.dumps(found)}), scale, evidence, measure)


# Several processes


@pytest.mark.seen_to_fail("OUM-10")
def test_processes_that_are_not_two(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    distributed.test_two_processes(oumi(), scale, evidence, measure)
    for wrong, message in (
        (oumi(nodes=("node01", "node01")), r"ran on node01, node01; expected 2 machines"),
        (oumi({"two-1/train.out": ""}), r"ranks \[\('0', '2'\)\] joined by gloo, expected"),
        (oumi({"two/trainer_state.json": state(160, batch=8)}), "took 160 steps, expected 80"),
        (oumi({"two/trainer_state.json": state(batch=WORK.batch)}), "16 samples a step and process, expected 8"),
        (
            oumi({"two/trainer_state.json": state(batch=8, losses=[(5, 1.0), (80, 1.0)])}),
            "the loss went from 1.0000 to",
        ),
    ):
        with pytest.raises(AssertionError, match=rf"^node01.*: job 7 \(oumi-two\): {message}"):
            distributed.test_two_processes(wrong, scale, evidence, measure)


@pytest.mark.seen_to_fail("OUM-13")
def test_a_loss_that_is_another(evidence: Evidence, measure: Measurements, scale: Scale) -> None:
    distributed.test_same_loss(oumi(), scale, evidence, measure)
    other = oumi({"two/trainer_state.json": state(batch=8, losses=[(5, 5.0), (80, 0.44)])})
    with pytest.raises(LimitExceeded, match=r"^node01: oumi\.two\.loss\.apart\.smoke is 10 %, expected at most 5 %"):
        distributed.test_same_loss(other, scale, evidence, measure)
