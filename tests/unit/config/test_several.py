"""Several clusters in one file, and how one of them is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config, load_configs, load_file, names_a_file
from pytest_ai_how.config.reference import refer
from pytest_ai_how.errors import ConfigError
from pytest_ai_how.limits import load_limits

TWO = """\
version: 1
clusters:
  hpc:
    driver: nspawn
    network: {subnet: 10.79.0.0/24, bridge: aihow-t}
    nodes:
      - name: controller
        roles: [controller]
        address: 10.79.0.10
        cpus: ${CPUS:-2}
  cloud:
    name: sky
    driver: nspawn
    network: {subnet: 10.80.0.0/24, bridge: aihow-u}
    nodes:
      - {name: control-plane, roles: [controller], address: 10.80.0.10}
"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a file of two clusters in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text(TWO)
    return "two.yaml"


def refused(cluster: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(cluster, environ={})
    return str(caught.value)


def test_one_of_several_is_a_cluster_as_any_other(two: str) -> None:
    hpc = load_config(f"{two}/hpc", environ={})
    assert (hpc.name, hpc.version, hpc.controller.cpus) == ("hpc", 1, 2), "the name is the key's by default"
    assert load_config(f"./{two}/cloud", environ={}).name == "sky"
    assert [config.name for config in load_configs(two, environ={})] == ["hpc", "sky"]
    assert [config.name for config in load_configs(f"{two}/cloud", environ={})] == ["sky"]
    assert list(load_file(Path(two), environ={})) == ["hpc", "cloud"]


def test_several_are_no_cluster_for_a_run(two: str) -> None:
    assert (
        refused(two) == "--cluster: two.yaml holds 2 clusters; say --cluster=two.yaml/hpc or --cluster=two.yaml/cloud"
    )


def test_a_file_of_one_under_the_key_clusters_needs_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(TWO[: TWO.index("  cloud:")])
    assert load_config(str(path), environ={}).name == "hpc"


def test_an_unknown_one_names_the_known_and_the_nearest(two: str) -> None:
    assert refused(f"{two}/hcp") == (
        "--cluster: two.yaml holds no cluster 'hcp'; known: hpc, cloud (did you mean 'hpc'?)"
    )
    assert refused("local/hpc") == "--cluster: local is one cluster; say --cluster=local"


def test_a_mistake_in_one_is_a_mistake_for_all(two: str) -> None:
    Path(two).write_text(TWO.replace("10.80.0.10}", "10.80.0.10, memroy: 1}"))
    line = "two.yaml:16: clusters.cloud.nodes.0.memroy: unknown key (did you mean 'memory'?)"
    assert refused(f"{two}/hpc") == refused(two) == line


@pytest.mark.parametrize(
    ("text", "name", "cluster"),
    [
        ("local", "local", ""),
        ("workstation/hpc", "workstation", "hpc"),
        ("x.yml/hpc", "x.yml", "hpc"),
        ("a/b/x.yaml/hpc", "a/b/x.yaml", "hpc"),
        ("a/b", "a/b", ""),
        ("./workstation/hpc", "./workstation/hpc", ""),
    ],
)
def test_what_a_name_refers_to(text: str, name: str, cluster: str) -> None:
    reference = refer(text)
    assert (reference.name, reference.cluster) == (name, cluster)
    assert names_a_file(text) == (name not in ("local", "workstation"))


def test_the_reference_workstation() -> None:
    """The facts that the suites are written for; the first card is written once and starts in one machine only."""
    hpc, cloud = load_configs("workstation", environ={})
    assert [(str(node.address), node.cpus, node.memory, node.disk) for node in hpc.nodes] == [
        ("192.168.100.10", 4, 8192, 100),
        ("192.168.100.11", 8, 16384, 200),
        ("192.168.100.12", 8, 16384, 200),
    ]
    assert [(str(node.address), node.cpus, node.memory, node.disk) for node in cloud.nodes] == [
        ("192.168.200.10", 4, 8192, 100),
        ("192.168.200.11", 4, 8192, 100),
        ("192.168.200.12", 8, 16384, 200),
    ]
    given = {node.name: [f"{one.address} {one.ids}" for one in node.devices] for node in (*hpc.nodes, *cloud.nodes)}
    first = ["0000:01:00.0 10de:2805", "0000:01:00.1 10de:22bd"]
    assert given == {
        "controller": [],
        "compute-01": first,
        "compute-02": ["0000:07:00.0 10de:2504", "0000:07:00.1 10de:228e"],
        "control-plane": [],
        "cpu-worker-01": [],
        "gpu-worker-01": first,
    }
    assert [node.name for node in (*hpc.nodes, *cloud.nodes) if not node.auto_start] == ["gpu-worker-01"]
    assert (hpc.name, cloud.name, cloud.slurm, hpc.storage.kind) == ("hpc-cluster", "cloud-cluster", None, "beegfs")
    assert [mount.tag for mount in hpc.nodes[1].virtiofs] == ["datasets", "results"]


def test_the_limits_of_the_reference_workstation_are_the_catalogues() -> None:
    """Absolute figures that are a stretch elsewhere are gates where the hardware is known; the rest is as elsewhere."""
    (name,) = {config.limits for config in load_configs("workstation", environ={})}
    here, elsewhere = load_limits(name), load_limits("local")
    assert here.judge("storage.seq_write", 953, "MiB/s", ceiling=2000).outcome == "fail"
    assert here.judge("storage.seq_write", 955, "MiB/s", ceiling=2000).outcome == "pass"
    assert here.judge("storage.metadata.filecreate", 9_999, "ops/s").outcome == "fail"
    assert here.judge("slurm.cancel", 16, "s").limit == elsewhere.judge("slurm.cancel", 16, "s").limit
