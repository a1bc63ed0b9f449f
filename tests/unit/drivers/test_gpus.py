"""GPUs of this host in systemd-nspawn machines: which one has which, what is copied, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.nspawn import gpus
from pytest_ai_how.drivers.nspawn.gpus import check_gpus, devices, layer, numbers
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal

from .sample import LOCAL, config
from .test_machine import machine
from .test_render import rendered

# `ldconfig -p` of glibc 2.39 beside driver 580.159.04, shortened.
CACHE = """\
1034 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,x86-64) => {root}/libnvidia-ml.so.1
\tlibnvidia-glcore.so.580.159.04 (libc6,x86-64) => {root}/libnvidia-glcore.so.580.159.04
\tlibcuda.so.1 (libc6,x86-64) => {root}/libcuda.so.1
\tlibcuda.so.1 (libc6) => {root}/32/libcuda.so.1
\tlibcuda.so (libc6,x86-64) => {root}/libcuda.so
\tlibc.so.6 (libc6,x86-64, OS ABI: Linux 3.2.0) => {root}/libc.so.6
"""


def two(first: int = 2, second: int = 1) -> ClusterConfig:
    """The sample with GPUs of the host on both compute nodes."""
    nodes: list[dict[str, Any]] = [dict(node) for node in LOCAL["nodes"]]
    nodes[1]["gpus"] = {"kind": "nvidia", "count": first, "type": "h100"}
    nodes[2]["gpus"] = {"kind": "nvidia", "count": second, "type": "h100"}
    return config(nodes=nodes)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a driver of NVIDIA and three GPUs: its /dev is what is returned."""
    libraries, programs, dev = tmp_path / "lib", tmp_path / "bin", tmp_path / "dev"
    for folder in (libraries, programs, dev):
        folder.mkdir()
    for name in ("libcuda.so.580.159.04", "libnvidia-ml.so.580.159.04"):
        (libraries / name).write_text(name)
        (libraries / f"{name.partition('.so')[0]}.so.1").symlink_to(name)
    (programs / "nvidia-smi").write_text("#!/bin/sh\n")
    (programs / "nvidia-smi").chmod(0o755)
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (dev / name).touch()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(gpus, "_cache", lambda: CACHE.format(root=libraries))
    return dev


def test_each_gpu_is_in_one_machine(host: Path) -> None:
    found = two()
    assert [list(numbers(found, node)) for node in found.nodes] == [[], [0, 1], [2]]
    assert [path.name for path in devices(found, found.nodes[2], host)] == ["nvidia2", "nvidiactl", "nvidia-uvm"]
    assert devices(config(), config().nodes[1], host) == []
    check_gpus(found, host)


def test_slurm_is_told_of_the_devices_that_are_there() -> None:
    files = rendered(two(), numbers=lambda node: numbers(two(), node))
    assert "Type=h100 File=/dev/nvidia[0-1]\n" in files["node01"]["/etc/slurm/gres.conf"].content.decode()
    assert "Type=h100 File=/dev/nvidia2\n" in files["node02"]["/etc/slurm/gres.conf"].content.decode()
    assert "/etc/tmpfiles.d/ai-how-gpus.conf" not in files["node01"]


def test_a_gpu_that_is_not_there_is_named(host: Path) -> None:
    with pytest.raises(
        ProvisionError, match=r"^node02: \S*/nvidia3 is not there; this host has nvidia0, nvidia1, nvidia2"
    ):
        check_gpus(two(2, 2), host)
    (host.parent / "none").mkdir()
    with pytest.raises(ProvisionError, match="this host has no GPU with a driver of NVIDIA\n  expected: a GPU of this"):
        check_gpus(two(), host.parent / "none")


def test_a_driver_without_its_programs_or_libraries_is_refused(
    host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "_cache", lambda: "0 libs found in cache `/etc/ld.so.cache'\n")
    with pytest.raises(ProvisionError, match=r"^localhost: `ldconfig -p` lists no libcuda\.so"):
        layer(tmp_path / "layer")
    monkeypatch.setenv("PATH", str(tmp_path / "layer"))
    with pytest.raises(ProvisionError, match="^localhost: no program nvidia-smi"):
        check_gpus(two(), host)


@pytest.mark.usefixtures("host")
def test_the_layer_has_what_computes_and_nothing_else(tmp_path: Path) -> None:
    layer(tmp_path / "layer")
    files = sorted(
        path.relative_to(tmp_path / "layer") for path in (tmp_path / "layer").rglob("*") if not path.is_dir()
    )
    below = Path("usr/lib/x86_64-linux-gnu")
    names = ("libcuda.so.1", "libcuda.so.580.159.04", "libnvidia-ml.so.1", "libnvidia-ml.so.580.159.04")
    assert files == [Path("usr/bin/nvidia-smi"), *(below / name for name in names)]
    assert (tmp_path / "layer" / below / "libcuda.so.1").read_text() == "libcuda.so.580.159.04"


def test_the_layer_lies_over_the_image(tmp_path: Path) -> None:
    found = machine(tmp_path)
    with pytest.raises(ProvisionError, match="-o lowerdir=/the/gpus:/no/image,"):
        found.mount(Path("/no/image"), Journal(tmp_path / "journal"), Path("/the/gpus"))
