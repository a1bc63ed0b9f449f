"""MLOPS-3.1: jobs submitted from outside by Oumi's own launcher, with its native Slurm cloud, over ssh."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import Slurm

from ._launch import WRONG, cancelled, refused, stated, training
from ._oumi import Oumi
from ._state import parse_state
from ._submissions import MINUTES, STEPS

pytestmark = [
    pytest.mark.requires("slurm", "oumi", "shared-storage", "owned"),
    # Whoever submits has the same home on the controller, and what a refused one must not leave lies there, too.
    pytest.mark.exclusive("oumi-launcher"),
]


def launched(oumi: Oumi, slurm: Slurm, evidence: Evidence) -> Mapping[str, str]:
    """What was seen of the training that was launched in this run, attached."""
    oumi.looked()
    seen = oumi.once.told("oumi-launch", lambda: training(oumi, slurm))
    for name, text in seen.items():
        evidence.attach(name, text)
    return seen


def where(oumi: Oumi, seen: Mapping[str, str]) -> str:
    """How messages name the job."""
    return f"{oumi.cluster.controller.name}: job {seen['id']} (ai-how-launched)"


@pytest.mark.check("OUM-14")
def test_submission(oumi: Oumi, slurm: Slurm, evidence: Evidence) -> None:
    """A training that was submitted from outside has COMPLETED in its time, and took its steps."""
    seen = launched(oumi, slurm, evidence)
    assert seen["state"] == "COMPLETED", (
        f"{where(oumi, seen)}: ended as {seen['state']}; expected COMPLETED within {MINUTES} min: "
        f"{seen['written'][-300:]}"
    )
    text = slurm.read(f"{oumi.folder}/launch/out/trainer_state.json")
    state = parse_state(text, f"{where(oumi, seen)}: trainer_state.json")
    assert state.global_step == STEPS, f"{where(oumi, seen)}: took {state.global_step} steps, expected {STEPS}"


@pytest.mark.check("OUM-15")
def test_status(oumi: Oumi, slurm: Slurm, evidence: Evidence) -> None:
    """On its way and at its end, Oumi says of the job what the accounting says, and shows the log that it wrote."""
    seen = launched(oumi, slurm, evidence)
    for stage in ("first", "last"):
        told, known = seen[f"{stage} oumi"], seen[f"{stage} sacct"].split()
        assert told, f"{where(oumi, seen)}: {stage}: `oumi launch status` does not have it; sacct has {known}"
        assert known, f"{where(oumi, seen)}: {stage}: the accounting does not have it"
        assert told in known, f"{where(oumi, seen)}: {stage}: Oumi says {told}, sacct {' then '.join(known)}"
    assert seen["first oumi"] == "RUNNING", f"{where(oumi, seen)}: was {seen['first oumi']} on its way, not RUNNING"
    assert seen["logs status"] == "0", f"{where(oumi, seen)}: `oumi launch logs` ended with {seen['logs status']}"
    # A colour more or less, or another width, is no other log.
    lines = [line.strip() for line in seen["written"].splitlines() if "INFO" in line]
    assert lines, f"{where(oumi, seen)}: wrote no log"
    plain = re.sub(r"\s+", "", seen["logs"])
    missing = [line for line in lines if re.sub(r"\s+", "", line) not in plain]
    assert not missing, f"{where(oumi, seen)}: `oumi launch logs` lacks {missing[0]!r}"


@pytest.mark.check("OUM-16")
def test_results(oumi: Oumi, slurm: Slurm, evidence: Evidence) -> None:
    """What the job left lies on the shared storage, and is the same, bit by bit, where it was fetched to."""
    seen = launched(oumi, slurm, evidence)
    assert "kept" in seen, f"{where(oumi, seen)}: ended as {seen['state']}; there is nothing to fetch"
    names = {line.split(maxsplit=1)[1] for line in seen["kept"].splitlines()}
    assert "./model.safetensors" in names, f"{where(oumi, seen)}: left no model.safetensors: {sorted(names)}"
    both = [set(seen[name].splitlines()) for name in ("kept", "fetched")]
    apart = sorted(both[0] ^ both[1], key=lambda line: line.split()[-1])
    assert not apart, f"{where(oumi, seen)}: {apart[0].split()[-1]} is another where it was fetched to, or not there"


@pytest.mark.check("OUM-25")
def test_script(oumi: Oumi, slurm: Slurm, evidence: Evidence) -> None:
    """The script that Oumi made has what its configuration says, and the job was given what that asks for."""
    seen = launched(oumi, slurm, evidence)
    job, script, tres = json.loads(seen["job"]), seen["script"].splitlines(), json.loads(seen["tres"])
    said = [f"#SBATCH --time={MINUTES}", *(f"export {name}={value}" for name, value in job["envs"].items())]
    said += job["run"].strip().splitlines()
    missing = [line for line in said if line not in script]
    assert not missing, f"{where(oumi, seen)}: oumi_job.sh has no line {missing[0]!r}"
    assert script[0] == "#!/bin/bash", f"{where(oumi, seen)}: oumi_job.sh begins with {script[0]!r}"
    gpus = int(job["resources"].get("accelerators", ":0").removeprefix(":"))
    memory = int(job["resources"]["memory"].removesuffix("M"))
    wanted = {"node": job["num_nodes"], "mem": memory, "gres/gpu": gpus}
    for name, amount in wanted.items():
        assert tres.get(name, 0) == amount, (
            f"{where(oumi, seen)}: the accounting has {name}={tres.get(name, 0)}, the configuration {amount}"
        )
    # Slurm allocates whole cores, which may have two threads.
    cpus = int(job["resources"]["cpus"])
    assert tres.get("cpu", 0) >= cpus, f"{where(oumi, seen)}: has {tres.get('cpu', 0)} CPUs, asked for {cpus}"


@pytest.mark.check("OUM-17")
def test_cancel(oumi: Oumi, slurm: Slurm, evidence: Evidence) -> None:
    """A running job that is cancelled through Oumi ends as CANCELLED."""
    oumi.looked()
    seen = oumi.once.told("oumi-cancel", lambda: cancelled(oumi, slurm))
    for name, text in seen.items():
        evidence.attach(name, text)
    label = f"{oumi.cluster.controller.name}: job {seen['id']} (ai-how-long)"
    assert seen["status"] == "0", f"{label}: `oumi launch cancel` ended with {seen['status']}, expected 0"
    assert seen["state"].startswith("CANCELLED"), f"{label}: is {seen['state']} after it was cancelled through Oumi"


@pytest.mark.check("OUM-18")
@pytest.mark.parametrize("wrong", list(WRONG))
def test_refused(oumi: Oumi, slurm: Slurm, evidence: Evidence, wrong: str) -> None:
    """A wrong key, host key, host or configuration is said to be the cause, the status tells, and nothing is left."""
    oumi.looked()
    seen = oumi.once.told("oumi-refused", lambda: refused(oumi, slurm))
    evidence.attach(wrong, seen[wrong])
    label = f"{oumi.cluster.controller.name}: `oumi launch up` with a wrong {wrong}"
    assert json.loads(seen["codes"])[wrong] != 0, f"{label} ended with 0, expected another status"
    said = seen[f"{wrong} said"]
    assert stated(said, WRONG[wrong]), (
        f"{label} has no line {WRONG[wrong]!r}, it ends with {said.strip()[-300:]!r}; expected the cause on a line of "
        "its own"
    )
    before, after = (json.loads(seen[name]) for name in ("before", "after"))
    assert before == after, f"{label} left something: {after}, before it {before}"
