"""MLOPS-1.2: the environment that Oumi runs in: versions, modules, configurations, and that it needs no network."""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.image.definitions import Source
from pytest_ai_how.report.evidence import Evidence

from ._oumi import Oumi
from ._schema import found as answers
from ._work import broken

pytestmark = pytest.mark.requires("oumi", "shared-storage")

#: Commands that Oumi must have, and what must be callable in Python.
COMMANDS = ("train", "evaluate", "infer", "launch", "distributed", "env")
API = ("train", "evaluate", "infer")


@pytest.mark.requires("image.oumi")
@pytest.mark.check("OUM-01")
def test_version(oumi: Oumi, evidence: Evidence) -> None:
    """Oumi and all that it loads have the versions of the image's lock; its commands and its Python API are there."""
    ran = oumi.looked()
    oumi.attach(ran, evidence)
    found, where = json.loads(oumi.read(ran.ended, "look.out")), ran.ended.label
    declared = Source.shipped().define(oumi.cluster.config.containers.served["oumi"]).wheels
    wrong = [name for name, version in declared.items() if found["versions"].get(name) != version]
    assert not wrong, (
        f"{where}: {wrong[0]} is {found['versions'].get(wrong[0]) or 'not there'}, the lock has {declared[wrong[0]]}"
    )
    assert found["prefix"] == "/venv", f"{where}: the interpreter is of {found['prefix']}, expected /venv"
    assert found["status"] == 0, f"{where}: `oumi --help` ended with {found['status']}, expected 0"
    lacking = [name for name in COMMANDS if name not in found["help"]]
    assert not lacking, f"{where}: `oumi --help` names no command {lacking[0]}"
    missing = [name for name in API if name not in found["api"]]
    assert not missing, f"{where}: the module oumi has no function {missing[0]}"


@pytest.mark.check("OUM-02")
def test_configurations(oumi: Oumi, evidence: Evidence) -> None:
    """The installed Oumi finds nothing wrong in our configurations, and the mistake in each that is broken."""
    ran = oumi.looked()
    oumi.attach(ran, evidence)
    said, where = answers(oumi.read(ran.ended, "schema.out")), ran.ended.label
    for name in oumi.sound():
        assert name in said, f"{where}: {name} was not looked at"
        assert not said[name], f"{where}: {name}: {said[name][:300]}; expected nothing wrong"
    for name, (_, word) in broken(oumi.work, oumi.folder).items():
        assert said.get(name), f"{where}: nothing is wrong with {name}, which was broken; expected a word of {word}"
        assert word in said[name], f"{where}: {name}: {said[name][:300]!r}; expected that it names {word}"


@pytest.mark.requires("image.oumi")
@pytest.mark.check("OUM-03")
def test_modules(oumi: Oumi, evidence: Evidence) -> None:
    """The modules that Oumi trains with load, in the versions of the lock."""
    ran = oumi.looked()
    oumi.attach(ran, evidence)
    found, where = json.loads(oumi.read(ran.ended, "look.out")), ran.ended.label
    assert found["modules"], f"{where}: no module was looked at"
    for name, module in found["modules"].items():
        assert not module["error"], f"{where}: import {name}: {module['error']}"
        assert module["version"] == found["versions"][name], (
            f"{where}: {name} says that it is {module['version']}, its package is {found['versions'][name]}"
        )


@pytest.mark.check("OUM-04")
def test_offline(oumi: Oumi, evidence: Evidence) -> None:
    """Where there is no network, a training ends well: model, tokenizer and data come from folders alone."""
    ran = oumi.trained()
    oumi.attach(ran, evidence)
    text = oumi.read(ran.ended, "alone.json")
    evidence.attach("alone.json", text, "application/json")
    found, where = json.loads(text), ran.ended.label
    assert found["interfaces"] == ["lo"], f"{where}: the training saw {found['interfaces']}, expected lo alone"
    assert found["answers"], f"{where}: no address was tried"
    for address, answer in found["answers"].items():
        assert answer == "ENETUNREACH", f"{where}: {address} answered {answer}; expected that there is no network"
    assert ran.steps["train"].status == 0, f"{where}: the training ended with {ran.steps['train'].status}"
