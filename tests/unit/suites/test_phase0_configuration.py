"""The checks of the configuration go red where mistakes are accepted or misplaced, and where a network is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.config.loader import config_names, load_configs
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.config.reference import refer
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.report.evidence import Evidence
from suites.phase0 import test_configuration as phase0
from suites.phase0._samples import Answer, Ways, ask, samples
from suites.phase6._nested import as_yaml

LOCAL = load_configs("local", environ={})
HPC, CLOUD = load_configs("workstation", environ={})
ALL = [config for name in config_names() for config in load_configs(name, environ={})]


def plain(config: ClusterConfig = LOCAL[0]) -> dict[str, Any]:
    return config.model_dump(mode="json")


@pytest.fixture
def really(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> phase0.Asked:
    """The command line itself, as the suite's own fixture asks it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def answer(name: str, content: str) -> Answer:
        (tmp_path / f"{name}.yaml").write_text(content)
        status = ask(str(tmp_path / f"{name}.yaml"))
        return Answer(status, capfd.readouterr().err.replace(f"{tmp_path}/", ""))

    return answer


def answering(change: Callable[[str, Answer], Answer], really: phase0.Asked) -> phase0.Asked:
    """The command line with a fault."""
    return lambda name, content: change(name, really(name, content))


def validates(config: ClusterConfig, file: Path, tmp_path: Path, evidence: Evidence) -> None:
    phase0.test_cluster_validates_when_rendered(config, file, tmp_path, evidence)


@pytest.mark.parametrize("name", config_names())
def test_a_shipped_cluster_validates_when_rendered(name: str, tmp_path: Path, evidence: Evidence) -> None:
    for config in load_configs(name):
        validates(config, refer(name).path, tmp_path, evidence)
        assert "${" not in evidence.items[-1].content


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(refer("local").path.read_text())
    return path


@pytest.mark.seen_to_fail("PRV-01")
def test_a_file_that_was_broken_since(file: Path, tmp_path: Path, evidence: Evidence) -> None:
    file.write_text(file.read_text().replace("cpus: 2", "cpus: ${AI_HOW_NEVER_SET}"))
    with pytest.raises(AssertionError) as caught:
        validates(LOCAL[0], file, tmp_path, evidence)
    assert f"{file}:13: nodes.0.cpus: variable AI_HOW_NEVER_SET is not set" in str(caught.value)
    assert "expected: 0 mistakes" in str(caught.value)


@pytest.mark.seen_to_fail("PRV-01")
def test_a_file_that_says_something_else_than_is_used(file: Path, tmp_path: Path, evidence: Evidence) -> None:
    file.write_text(file.read_text().replace("limits: local", "limits: beegfs"))
    with pytest.raises(AssertionError, match=r"mine\.yaml: limits is 'beegfs', this run uses 'local' \(and 0 more\)"):
        validates(LOCAL[0], file, tmp_path, evidence)
    with pytest.raises(AssertionError, match=r"mine\.yaml: holds no cluster 'other', which this run is about"):
        validates(LOCAL[0].model_copy(update={"name": "other"}), file, tmp_path, evidence)


@pytest.mark.seen_to_fail("PRV-01")
def test_what_is_rendered_is_put_to_the_schema(file: Path, tmp_path: Path, evidence: Evidence) -> None:
    """A configuration that no file can say: what it is rendered to is refused, in its own file."""
    nodes = tuple(node.model_copy(update={"memory": 1}) for node in LOCAL[0].nodes)
    odd = LOCAL[0].model_copy(update={"nodes": nodes})
    file.write_text(as_yaml(odd))
    with pytest.raises(AssertionError, match=r"mine\.yaml:\d+: nodes\.0\.memory: is 1, expected .*256"):
        validates(odd, file, tmp_path, evidence)


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.name)
def test_whatever_ships_passes(config: ClusterConfig, really: phase0.Asked, evidence: Evidence) -> None:
    phase0.test_broken_configurations_are_refused(plain(config), really, evidence)
    phase0.test_unbound_variables_are_named(plain(config), really, evidence)
    found = list(samples(plain(config)))
    assert len(found) >= 20
    assert len([one for one in found if one.line > 1]) >= 4
    assert all(item.size for item in evidence.items)


@pytest.mark.seen_to_fail("PRV-02")
def test_a_mistake_that_is_accepted(really: phase0.Asked, evidence: Evidence) -> None:
    accepting = answering(lambda name, answer: Answer(0, "x") if name == "broken" else answer, really)
    with pytest.raises(AssertionError, match="a mistake at drivr is accepted"):
        phase0.test_broken_configurations_are_refused(plain(), accepting, evidence)


@pytest.mark.seen_to_fail("PRV-02")
def test_a_mistake_that_is_told_without_its_place(really: phase0.Asked, evidence: Evidence) -> None:
    vague = answering(lambda name, answer: Answer(answer.status, "bad file\n") if name == "broken" else answer, really)
    with pytest.raises(
        AssertionError, match=r"a mistake at drivr is told elsewhere: bad file; expected broken\.yaml:1"
    ):
        phase0.test_broken_configurations_are_refused(plain(), vague, evidence)


@pytest.mark.seen_to_fail("PRV-02")
def test_refusing_everything_is_no_pass(really: phase0.Asked, no_evidence: Evidence) -> None:
    values = {**plain(), "name": "Not Sound"}
    with pytest.raises(AssertionError, match="the sound configuration is refused as well, so nothing is told"):
        phase0.test_broken_configurations_are_refused(values, really, no_evidence)


@pytest.mark.seen_to_fail("PRV-02")
def test_a_mistake_that_is_told_in_another_line(really: phase0.Asked, evidence: Evidence) -> None:
    first = answering(lambda name, answer: Answer(answer.status, re.sub(r"yaml:\d+", "yaml:1", answer.said)), really)
    with pytest.raises(
        AssertionError, match=r"a mistake at \S+ is told elsewhere: broken\.yaml:1: .*; expected broken\.yaml:\d\d?: "
    ):
        phase0.test_broken_configurations_are_refused(plain(), first, evidence)


def test_every_break_breaks_one_thing(really: phase0.Asked) -> None:
    for one in samples(plain()):
        assert f"broken.yaml:{one.line}: {one.path}: " in really("broken", one.text).said, one.path
    assert plain() == plain(LOCAL[0]), "the sound values are left as they are"


@pytest.mark.seen_to_fail("PRV-03")
def test_variables_that_are_not_named_or_default_not_taken(really: phase0.Asked, evidence: Evidence) -> None:
    accepting = answering(lambda name, answer: Answer(0, "") if name == "without" else answer, really)
    with pytest.raises(AssertionError, match="is accepted although it is not set"):
        phase0.test_unbound_variables_are_named(plain(), accepting, evidence)
    vague = answering(lambda name, answer: Answer(1, "something is not set") if name == "without" else answer, really)
    with pytest.raises(AssertionError, match="the refusal does not name the variable: something is not set"):
        phase0.test_unbound_variables_are_named(plain(), vague, evidence)
    deaf = answering(lambda name, answer: Answer(1, "user: is ''") if name == "default" else answer, really)
    with pytest.raises(AssertionError, match="the default of .* is not taken: user: is ''"):
        phase0.test_unbound_variables_are_named(plain(), deaf, evidence)


@pytest.mark.seen_to_fail("PRV-04")
def test_a_shipped_file_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> None:
    phase0.test_shipped_configurations_validate(evidence)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(json.dumps({**plain(), "driver": "xen"}))
    assert phase0.mistakes({"wrong": wrong}).keys() == {"wrong"}
    monkeypatch.setattr(phase0, "config_names", lambda: ("local", "wrong"))
    monkeypatch.setattr(phase0, "refer", lambda name: type("R", (), {"path": wrong}))
    with pytest.raises(AssertionError, match=r"wrong\.yaml:1: driver: is 'xen'"):
        phase0.test_shipped_configurations_validate(evidence)
    monkeypatch.setattr(phase0, "config_names", lambda: ())
    with pytest.raises(AssertionError, match="no configuration ships"):
        phase0.test_shipped_configurations_validate(evidence)


def ways(*, links: list[Mapping[str, Any]] | None = None, routes: list[Mapping[str, Any]] | None = None) -> Ways:
    """A host with one network card, in the form of ``ip -json`` (iproute2 6.1)."""
    card = {"ifname": "eth0", "addr_info": [{"family": "inet", "local": "10.0.2.15"}]}
    default = {"dst": "default", "gateway": "10.0.2.2", "dev": "eth0"}
    return Ways([card, *(links or [])], [default, *(routes or [])])


def test_free_networks_and_the_clusters_own_pass(evidence: Evidence) -> None:
    phase0.test_networks_are_free((HPC, CLOUD), ways(), evidence)
    own = {
        "ifname": "virbr100",
        "ifalias": cookie("hpc-cluster"),
        "addr_info": [{"family": "inet", "local": "192.168.100.1"}],
    }
    route = {"dst": "192.168.100.0/24", "dev": "virbr100"}
    phase0.test_networks_are_free((HPC, CLOUD), ways(links=[own], routes=[route]), evidence)


@pytest.mark.seen_to_fail("PRV-05")
@pytest.mark.parametrize(
    ("links", "routes", "said"),
    [
        ([], [{"dst": "192.168.0.0/16", "dev": "tun0"}], "hpc-cluster: subnet 192.168.100.0/24 is in use: route"),
        (
            [{"ifname": "virbr200"}],
            [],
            "cluster cloud-cluster: interface virbr200 exists and belongs to something else",
        ),
        (
            [{"ifname": "virbr100", "ifalias": cookie("other")}],
            [],
            "cluster hpc-cluster: interface virbr100 exists and belongs to cluster 'other'",
        ),
        (
            [{"ifname": "eth1", "addr_info": [{"family": "inet", "local": "192.168.200.7"}]}],
            [],
            "cloud-cluster: subnet 192.168.200.0/24 is in use: eth1 has the address 192.168.200.7",
        ),
    ],
)
def test_a_network_that_is_taken(
    links: list[Mapping[str, Any]], routes: list[Mapping[str, Any]], said: str, evidence: Evidence
) -> None:
    with pytest.raises(AssertionError) as caught:
        phase0.test_networks_are_free((HPC, CLOUD), ways(links=links, routes=routes), evidence)
    assert said in str(caught.value)


@pytest.mark.seen_to_fail("PRV-05")
def test_clusters_in_each_others_way(evidence: Evidence) -> None:
    assert HPC.network is not None
    same = CLOUD.model_copy(update={"network": HPC.network})
    with pytest.raises(AssertionError, match=r"cluster hpc-cluster: subnet 192\.168\.100\.0/24 overlaps"):
        phase0.test_networks_are_free((HPC, same), ways(), evidence)
    assert CLOUD.network is not None
    bridge = CLOUD.model_copy(update={"network": CLOUD.network.model_copy(update={"bridge": "virbr100"})})
    with pytest.raises(AssertionError, match="cluster hpc-cluster: bridge virbr100 is cloud-cluster's too"):
        phase0.test_networks_are_free((HPC, bridge), ways(), evidence)
    with pytest.raises(AssertionError, match="no cluster of the file has a network"):
        phase0.test_networks_are_free((HPC.model_copy(update={"network": None}),), ways(), evidence)
