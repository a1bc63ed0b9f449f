"""What a configuration alone says is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.capabilities import CAPABILITIES, capabilities, declared_absent
from pytest_ai_how.config.loader import load_config
from tests.unit.config.samples import SOUND, load


def test_local_lacks_only_real_gpus_and_beegfs() -> None:
    assert declared_absent(load_config("local", environ={})) == {
        "gpu.real": "gpus are simulated in cluster 'local'",
        "gpu.passthrough": "no gpus of kind passthrough in cluster 'local'",
        "beegfs": "storage.kind is host-directory in cluster 'local'",
        "cloud": "no outside.peers in cluster 'local'",
        "grafana": "no monitoring.grafana in cluster 'local'",
        "dcgm": "no monitoring.dcgm in cluster 'local'",
        "image.oumi": "no image 'oumi' in cluster 'local'",
        "oumi": "no image 'oumi' in cluster 'local'",
    }


@pytest.mark.parametrize(
    ("old", "new", "absent", "reason"),
    [
        (", gpus: {count: 2}", "", "gpu", "no gpus that slurm could allocate"),
        (", gpus: {count: 2}", "", "gpu.real", "no gpus"),
        ("cluster: t\n", "cluster: t\n  accounting: false\n", "accounting", "slurm without accounting"),
        ("driver: nspawn", "driver: nspawn\nstorage: {kind: none}", "shared-storage", "storage.kind is none"),
        ("driver: nspawn", "driver: nspawn\nstorage: {kind: none}", "storage.raw", "storage.kind is none"),
        ("driver: nspawn", "driver: nspawn\nstorage: {kind: none}", "beegfs", "storage.kind is none"),
        ("driver: nspawn", "driver: nspawn\ncontainers: {runtime: none}", "apptainer", "containers.runtime is none"),
        ("driver: nspawn", "driver: nspawn\ncontainers: {images: [base]}", "image.pytorch", "no image 'pytorch'"),
        ("driver: nspawn", "driver: nspawn\ncontainers: {images: [base]}", "image.mpi", "no image 'mpi'"),
        ("driver: nspawn", "driver: nspawn\ncontainers: {images: [base, pytorch]}", "image.oumi", "no image 'oumi'"),
        ("driver: nspawn", "driver: ssh\nstorage: {kind: existing}", "owned", "driver is ssh"),
        ("driver: nspawn", "driver: nspawn", "virtiofs", "driver is nspawn, storage.kind is host-directory"),
        ("driver: nspawn", "driver: nspawn", "hypervisor", "driver is nspawn"),
        ("driver: nspawn", "driver: ssh\nstorage: {kind: existing}", "network.own", "driver is ssh"),
        ("driver: nspawn", "driver: ssh\nstorage: {kind: existing}", "outside", "no section outside"),
        ("driver: nspawn", "driver: ssh\nstorage: {kind: existing}", "sudo", "ssh.user is root"),
        ("driver: nspawn", "driver: ssh\nstorage: {kind: existing}", "packages.claimed", "no claims.packages"),
        (
            "driver: nspawn",
            "driver: ssh\nstorage: {kind: existing}",
            "network.throughput",
            "iperf3 is not among claims.packages",
        ),
        ("cpus: 2", "cpus: 1", "cpus.several", "no compute node has more than one CPU"),
        ("driver: nspawn", "driver: nspawn\nabsent: [cgroup.memory]", "cgroup.memory", "declared absent"),
    ],
)
def test_absent(tmp_path: Path, old: str, new: str, absent: str, reason: str) -> None:
    assert old in SOUND
    config = load(tmp_path, SOUND.replace(old, new))
    assert declared_absent(config)[absent] == f"{reason} in cluster 't'"
    assert absent not in capabilities(config)


def test_without_slurm_nothing_of_it_is_left(tmp_path: Path) -> None:
    config = load(tmp_path, SOUND[: SOUND.index("slurm:")])
    gone = {"slurm", "accounting", "gpu", "cgroup.cpu", "cgroup.memory", "cgroup.devices"}
    assert gone <= declared_absent(config).keys()


def test_libvirt_gives_a_host_directory_by_virtiofs(tmp_path: Path) -> None:
    assert "virtiofs" in capabilities(load(tmp_path, SOUND.replace("nspawn", "libvirt")))


def test_a_mount_of_one_machine_is_virtiofs_too(tmp_path: Path) -> None:
    text = SOUND.replace("nspawn", "libvirt\nstorage: {kind: none}")
    assert "virtiofs" not in capabilities(load(tmp_path, text))
    mount = "cpus: 2, virtiofs: [{tag: data, source: /srv/data, mount: /data}]"
    assert "virtiofs" in capabilities(load(tmp_path, text.replace("cpus: 2", mount)))


def test_passthrough_is_real(tmp_path: Path) -> None:
    gpus = 'kind: passthrough, count: 1, devices: [{address: 0000:01:00.0, vendor: 10de, device: "2805"}]'
    config = load(tmp_path, SOUND.replace("nspawn", "libvirt").replace("count: 2", gpus))
    assert {"gpu", "gpu.real", "gpu.passthrough"} <= capabilities(config)


HOST = """\
version: 1
name: t
driver: host
launcher: direct
nodes: [{name: box, roles: [controller, compute], address: 127.0.0.1}]
storage: {kind: none}
containers: {runtime: none}
"""


@pytest.mark.parametrize(
    ("old", "new", "absent", "reason"),
    [
        ("", "", "slurm", "launcher is direct"),
        ("", "", "cgroup.cpu", "launcher is direct"),
        ("", "", "pytorch", "no python"),
        ("", "", "gpu.real", "no gpus"),
        ("", "", "machines.several", "one machine"),
        ("", "", "network", "driver is host"),
        ("", "", "network.own", "driver is host"),
        ("", "", "os.declared", "driver is host"),
        ("", "", "ports.declared", "no claims.ports"),
        ("", "", "sudo", "driver is host"),
        ("", "", "owned", "driver is host"),
        ("", "", "hardware.own", "no cpus and memory are written for its node"),
        ("127.0.0.1}", "127.0.0.1, gpus: {kind: nvidia, count: 1}}", "gpu", "no gpus that slurm could allocate"),
        (
            "127.0.0.1}",
            "127.0.0.1, gpus: {kind: nvidia, count: 1}}",
            "gpu.pair",
            "1 gpus on compute nodes that one job could hold",
        ),
    ],
)
def test_absent_on_a_host(tmp_path: Path, old: str, new: str, absent: str, reason: str) -> None:
    assert old in HOST
    config = load(tmp_path, HOST.replace(old, new) if old else HOST)
    assert declared_absent(config)[absent] == f"{reason} in cluster 't'"


@pytest.mark.parametrize(
    ("old", "new", "present"),
    [
        ("launcher: direct", "launcher: direct\npython: ~/venv/bin/python", "pytorch"),
        ("127.0.0.1}", "127.0.0.1, cpus: 8, memory: 4096}", "hardware.own"),
        ("127.0.0.1}", "127.0.0.1, gpus: {kind: nvidia, count: 1}}", "gpu.real"),
        ("127.0.0.1}", "127.0.0.1, gpus: {kind: nvidia, count: 2}}", "gpu.pair"),
        ("launcher: direct", "launcher: direct\nclaims: {ports: [tcp/22]}", "ports.declared"),
        ("kind: none", "kind: scratch, mount: /var/tmp/s", "shared-storage"),
    ],
)
def test_a_host_has_what_its_yaml_says(tmp_path: Path, old: str, new: str, present: str) -> None:
    assert present not in capabilities(load(tmp_path, HOST))
    assert present in capabilities(load(tmp_path, HOST.replace(old, new)))


def test_pytorch_comes_in_an_image_too(tmp_path: Path) -> None:
    assert "pytorch" in capabilities(load(tmp_path))


def test_both_lists_are_the_whole_list(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert capabilities(config) | declared_absent(config).keys() == CAPABILITIES.keys()
    assert all(CAPABILITIES.values())


def test_the_catalogue_requires_known_capabilities_only() -> None:
    required = {name for check in load_catalogue().values() for name in check.requires}
    assert required <= CAPABILITIES.keys()
