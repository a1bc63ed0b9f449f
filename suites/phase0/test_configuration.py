"""What the YAML says is understood, what it says wrongly is refused, and its networks are free."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import config_names, load_file
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.reference import refer
from pytest_ai_how.drivers.machines.network import check_network
from pytest_ai_how.errors import ConfigError, HostError
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.report.evidence import Evidence

from ..phase6._nested import as_yaml
from ._samples import Answer, Ways, lines, samples

Asked = Callable[[str, str], Answer]
#: A name that no environment has.
UNSET = "AI_HOW_PHASE0_IS_NEVER_SET"


@pytest.mark.check("PRV-01")
def test_cluster_validates_when_rendered(
    cluster_config: ClusterConfig, cluster_file: Path, tmp_path: Path, evidence: Evidence
) -> None:
    """The cluster's file is valid with its variables filled in, says what this run uses, and so does what it becomes.

    What it becomes has every default written out. It is read again as any other file, by the same schema and rules.
    """
    rendered = tmp_path / f"{cluster_config.name}.yaml"
    rendered.write_text(as_yaml(cluster_config), encoding="utf-8")
    evidence.attach(f"{cluster_file.name}, rendered", rendered.read_text(encoding="utf-8"))
    for file in (cluster_file, rendered):
        wrong = mistakes({file.name: file})
        assert not wrong, f"{wrong[file.name]}\n    expected: 0 mistakes"
        found = [config for config in load_file(file).values() if config.name == cluster_config.name]
        assert found, f"{file.name}: holds no cluster {cluster_config.name!r}, which this run is about"
        changed = differences(found[0], cluster_config)
        assert not changed, (
            f"{file.name}: {changed[0]} (and {len(changed) - 1} more); expected what this run uses; "
            "start it anew, with the same environment"
        )


@pytest.mark.check("PRV-02")
def test_broken_configurations_are_refused(plain: Mapping[str, object], asked: Asked, evidence: Evidence) -> None:
    """Each of some variants of the cluster's own configuration with one mistake is refused at its key, in its line.

    Some are one line of JSON, others many of YAML.
    """
    for name, text in (("sound", json.dumps(plain)), ("lines", lines(plain))):
        sound = asked(name, text)
        assert not re.search(rf"{name}\.yaml:\d+: ", sound.said), (
            f"the sound configuration is refused as well, so nothing is told: {sound.said}"
        )
    answers = [(one, asked("broken", one.text)) for one in samples(plain)]
    evidence.attach("answers", "\n".join(f"{answer.status}: {answer.said.splitlines()[0]}" for _, answer in answers))
    for one, answer in answers:
        assert answer.status != 0, f"a mistake at {one.path} is accepted (exit status 0), expected a refusal"
        place = f"broken.yaml:{one.line}: {one.path}: "
        assert place in answer.said, (
            f"a mistake at {one.path} is told elsewhere: {answer.said.strip()}; expected {place}…"
        )


@pytest.mark.check("PRV-03")
def test_unbound_variables_are_named(plain: Mapping[str, object], asked: Asked, evidence: Evidence) -> None:
    """A variable that is not set is refused by its name, and its default is taken where it has one."""
    without = asked("without", json.dumps({**plain, "user": f"${{{UNSET}}}"}))
    default = asked("default", json.dumps({**plain, "user": f"${{{UNSET}:-hpc}}"}))
    evidence.attach("without a default", without.said)
    evidence.attach("with a default", default.said or "accepted")
    assert without.status != 0, f"${{{UNSET}}} is accepted although it is not set, expected a refusal"
    named = f"user: variable {UNSET} is not set"
    assert named in without.said, f"the refusal does not name the variable: {without.said.strip()}; expected {named}"
    assert "user" not in default.said, f"the default of ${{{UNSET}:-hpc}} is not taken: {default.said.strip()}"


@pytest.mark.check("PRV-04")
def test_shipped_configurations_validate(evidence: Evidence) -> None:
    """Every configuration that ships is valid, as it is and as anybody would name it."""
    shipped = {name: refer(name).path for name in config_names()}
    assert shipped, "no configuration ships; nothing was put to the test"
    refused = mistakes(shipped)
    evidence.attach("shipped", "\n".join(f"{name}: {refused.get(name, 'valid')}" for name in shipped))
    assert not refused, "\n".join(refused.values())


@pytest.mark.check("PRV-05")
@pytest.mark.requires("owned")
def test_networks_are_free(file_clusters: Sequence[ClusterConfig], ways: Ways, evidence: Evidence) -> None:
    """No subnet or bridge of the file is in use, on this host or by another cluster of the file.

    A cluster that is up uses its own: what carries its mark is not in its way.
    """
    networks = {config.name: config.network for config in file_clusters if config.network}
    assert networks, "no cluster of the file has a network; nothing was put to the test"
    evidence.attach("networks", "\n".join(f"{name}: {one.subnet} {one.bridge}" for name, one in networks.items()))
    evidence.attach("routes of this host", "\n".join(map(json.dumps, ways.routes)) or "none")
    own = {str(one["ifname"]) for one in ways.links if one.get("ifalias") in {cookie(name) for name in networks}}
    links = [one for one in ways.links if one["ifname"] not in own]
    routes = [one for one in ways.routes if one.get("dev") not in own]
    for name, network in networks.items():
        try:
            check_network(network, name, links, routes)
        except HostError as error:
            raise AssertionError(f"cluster {name}: {error.seen}, expected {error.expected}; {error.cure}") from error
        for other, theirs in networks.items():
            if other != name:
                assert not network.subnet.overlaps(theirs.subnet), (
                    f"cluster {name}: subnet {network.subnet} overlaps {theirs.subnet} of cluster {other}"
                )
                assert network.bridge != theirs.bridge, f"cluster {name}: bridge {network.bridge} is {other}'s too"


def mistakes(files: Mapping[str, Path]) -> dict[str, str]:
    """What is wrong with each of the files that are not valid."""
    found = {}
    for name, path in files.items():
        try:
            load_file(path)
        except ConfigError as error:
            found[name] = str(error)
    return found


def differences(seen: ClusterConfig, used: ClusterConfig) -> list[str]:
    """The keys whose values differ, with both values."""
    ours, theirs = used.model_dump(mode="json"), seen.model_dump(mode="json")
    return [f"{key} is {theirs[key]!r}, this run uses {ours[key]!r}" for key in ours if theirs[key] != ours[key]]
