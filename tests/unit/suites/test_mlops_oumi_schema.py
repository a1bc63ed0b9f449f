"""Nothing is handed in that the schema of the installed Oumi does not take, and what is wrong with it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.report.evidence import Evidence
from suites.mlops.oumi import _launch
from suites.mlops.oumi import test_environment as environment
from suites.mlops.oumi._oumi import Oumi
from suites.mlops.oumi._schema import kind_of
from suites.mlops.oumi._submissions import JOB, LONG, SHORT, TRAIN
from suites.mlops.oumi._work import Plan, configurations
from tests.unit.suites.oumi_fakes import FOLDER, PLAN, calls, made, oumi, placed, schema, with_jobs

WRONG = "OumiConfigParsingError: Config error at 'training.epochs': Key 'epochs' not in 'TrainingParams'"
#: Work of two processes that is not that of one.
OTHER = Plan(PLAN.sft, PLAN.two.model_copy(update={"epochs": PLAN.two.epochs + 1}), PLAN.lora, PLAN.launch)


def looked_over(lease: Lease, **answers: str) -> Oumi:
    """Jobs that all end well, whose schema answers so."""
    told = json.loads(schema()) | dict.fromkeys((TRAIN, JOB, LONG, SHORT), "") | answers
    names = ("look", "sft", "evaluate", "one", "two", "lora")
    return with_jobs(lease, *names, plan=OTHER, said=json.dumps(told))


def submitted(oumi: Oumi) -> list[str]:
    """The names of the jobs that were handed in."""
    return [word.partition("=")[2] for argv, _ in calls(oumi, "sbatch") for word in argv if "--job-name=" in word]


@pytest.mark.parametrize(
    ("name", "ask", "before"),
    [
        ("train.yaml", Oumi.trained, ["look"]),
        ("evaluate-base.yaml", Oumi.evaluated, ["look", "sft"]),
        ("evaluate-tuned.yaml", Oumi.evaluated, ["look", "sft"]),
        ("infer.yaml", Oumi.evaluated, ["look", "sft"]),
        ("train-one.yaml", Oumi.reference, ["look"]),
        ("train-two.yaml", Oumi.paired, ["look", "one"]),
        ("train-two.yaml", Oumi.paced, ["look"]),
        ("train-lora.yaml", Oumi.adapted, ["look"]),
    ],
)
def test_a_job_is_not_handed_in_with_a_configuration_that_is_not_of_the_schema(
    lease: Lease, name: str, ask: Callable[[Oumi], object], before: list[str]
) -> None:
    oumi = looked_over(lease, **{name: WRONG})
    with pytest.raises(AiHowError) as caught:
        ask(oumi)
    assert str(caught.value) == (
        f"node01: job 3 (oumi-look): {name}: is not handed in, for the schema of the installed Oumi does not take it: "
        f"{WRONG}\n  expected: a configuration with which nothing is wrong\n"
        "  do: see OUM-02 for all of them, and by OUM-01 whether Oumi is of the image's lock"
    )
    assert submitted(oumi) == [f"oumi-{one}" for one in before]


def test_what_is_of_the_schema_is_handed_in(lease: Lease) -> None:
    oumi = looked_over(lease)
    for ask in (Oumi.evaluated, Oumi.paired, Oumi.adapted):
        ask(oumi)
    assert set(submitted(oumi)) == {f"oumi-{one}" for one in ("look", "sft", "evaluate", "one", "two", "lora")}


@pytest.mark.parametrize(
    ("name", "ask"),
    [(TRAIN, _launch.training), (JOB, _launch.training), (LONG, _launch.cancelled), (SHORT, _launch.refused)],
)
def test_what_is_launched_is_held_to_the_schema_before(
    lease: Lease, name: str, ask: Callable[[Oumi, object], object]
) -> None:
    oumi = looked_over(lease, **{name: WRONG})
    with pytest.raises(
        AiHowError, match=rf"oumi-look\): {name}: is not handed in, for the schema .* not take it: Oumi"
    ):
        ask(oumi, None)  # it gets to no Slurm


def test_what_is_launched_lies_there_when_the_schema_is_asked(lease: Lease) -> None:
    oumi = looked_over(lease)
    oumi.looked()
    files = {path.removeprefix(f"{FOLDER}/"): text for path, text in placed(oumi).items()}
    (step,) = [one for one in json.loads(files["look.steps.json"]) if one["name"] == "schema"]
    assert {f"train={TRAIN}", f"job={JOB}", f"job={LONG}", f"job={SHORT}", "job=job-no-script.yaml"} <= set(
        step["argv"]
    )
    assert {TRAIN, JOB, LONG, SHORT} < files.keys()
    assert f"{FOLDER}/launch/work" in calls(oumi, "mkdir")[-1][0]
    assert {kind_of(name) for name in oumi.all_configurations()} == {"train", "evaluate", "infer", "job"}


def test_without_an_image_or_slurm_nothing_is_launched(lease: Lease) -> None:
    slurm = made(lease)
    assert slurm.submissions().keys() == {TRAIN, JOB, LONG, SHORT}
    assert slurm.submissions()[JOB]["resources"]["accelerators"] == ":1"
    assert "accelerators" not in slurm.submissions()[LONG]["resources"]
    assert replace(slurm, runtime=replace(slurm.runtime, image="")).submissions() == {}
    assert oumi().submissions() == {}


def test_a_file_that_nobody_looked_at_is_not_taken_for_right(lease: Lease) -> None:
    oumi = looked_over(lease)
    with pytest.raises(AiHowError, match=r"train-x\.yaml: is not handed in, .* does not take it: nobody looked at it"):
        oumi.valid("train-x.yaml")


@pytest.mark.seen_to_fail("OUM-02")
def test_a_file_of_the_launcher_is_judged_with_the_others(monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> None:
    found = oumi()
    monkeypatch.setattr(Oumi, "submissions", lambda _: {JOB: {}})
    assert found.sound().keys() - configurations(PLAN, FOLDER).keys() == {JOB}
    with pytest.raises(AssertionError, match=r"launch/job\.yaml was not looked at"):
        environment.test_configurations(found, evidence)
    said = json.loads(schema()) | {JOB: WRONG}
    with pytest.raises(AssertionError, match=r"launch/job\.yaml: OumiConfigParsingError: .*; expected nothing wrong"):
        environment.test_configurations(oumi({"schema.out": json.dumps(said)}), evidence)
