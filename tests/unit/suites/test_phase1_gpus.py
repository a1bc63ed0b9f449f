"""The checks of GPUs go red on machines whose GPUs are not well, and name them. Outputs are of an H100."""

from __future__ import annotations

import doctest
import json
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import Gpus
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.facts import Readings
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.report.measurements import InvalidMeasurement, LimitExceeded, Measurements
from pytest_ai_how.shell import Result
from suites.phase1 import _facts as read
from suites.phase1 import _gpus
from suites.phase1 import test_gpus as gpus
from suites.phase1._rates import known_cards
from tests.fakes import Script, fake_cluster

from .phase1_fakes import measure

CARD = "0000:00:06.0 0x10de 0x2330 nvidia\n"
SMI = "0, NVIDIA H100 80GB HBM3, 00000000:00:06.0, 580.159.04, 81559\n"
MODULES = "nvidia_uvm 1830912 0 - Live 0x0 (O)\nnvidia 14299136 1 nvidia_uvm, Live 0x0 (O)\n"
XID = "[   99.1] node02 kernel: NVRM: Xid (PCI:0000:00:06): 79, pid=812, name=python3, GPU has fallen off the bus."
BUILT = "nvidia/580.159.04, 6.12.48+deb13-amd64, x86_64: installed"
WELL: dict[Any, str] = {
    _gpus.CARDS: CARD,
    _gpus.SMI: SMI,
    _gpus.LOADED: MODULES,
    _gpus.DKMS: BUILT,
    read.KERNEL: "6.12.48+deb13-amd64",
    read.KERNEL_LOG: "[    0.0] node kernel: Linux version 6.12.48+deb13-amd64\n",
}
NAMES = ("controller", "node01", "node02")


def cluster(scripts: dict[str, Script] | None = None) -> Cluster:
    """Two machines with a GPU each, and a controller without one."""
    config = load_config("local")
    real = Gpus(kind="nvidia", count=1, type="h100")
    nodes = tuple(node.model_copy(update={"gpus": real if node.gpus else None}) for node in config.nodes)
    return fake_cluster(scripts or {}, config=config.model_copy(update={"nodes": nodes}))


def told(**changed: dict[Any, str | Result]) -> Facts:
    answers = {name: {**WELL, **changed.get(name, {})} for name in NAMES}
    answers["controller"] = {_gpus.CARDS: "", _gpus.LOADED: "ext4 1 0 - Live 0x0\n", **changed.get("controller", {})}
    return Facts(Readings.told(answers), Evidence())


@pytest.mark.seen_to_fail("INF-19")
def test_gpus_in_other_places() -> None:
    gpus.test_gpus_are_where_they_are_to_be(cluster(), told())
    with pytest.raises(AssertionError, match=r"^node01: has the GPUs none, configured 10de:"):
        gpus.test_gpus_are_where_they_are_to_be(cluster(), told(node01={_gpus.CARDS: ""}))
    with pytest.raises(AssertionError, match=r"^controller: has the GPUs 10de:2330, configured none"):
        gpus.test_gpus_are_where_they_are_to_be(cluster(), told(controller={_gpus.CARDS: CARD}))
    with pytest.raises(AssertionError, match="^local: no machine is to have a GPU; nothing was looked at"):
        gpus.test_gpus_are_where_they_are_to_be(fake_cluster({}), told())


def test_gpus_that_are_given_are_known_by_their_numbers() -> None:
    node = next(one for one in load_config("workstation/hpc").nodes if one.devices)
    assert all(len(ids) == len("10de:2204") for ids in _gpus.planned(node))
    assert len(_gpus.planned(node)) == sum(one.kind == "gpu" for one in node.devices)


@pytest.mark.seen_to_fail("INF-20")
def test_drivers_that_differ() -> None:
    gpus.test_driver(cluster(), told())
    with pytest.raises(AssertionError, match=r"^node02: its driver is 550\.1, node01 has 580\.159\.04; expected one"):
        gpus.test_driver(cluster(), told(node02={_gpus.SMI: SMI.replace("580.159.04", "550.1")}))
    with pytest.raises(AssertionError, match=r"^node01: nvidia-smi tells of 0 GPUs, configured 1"):
        gpus.test_driver(cluster(), told(node01={_gpus.SMI: "\n"}))


@pytest.mark.seen_to_fail("INF-21")
def test_another_driver_has_the_gpu() -> None:
    gpus.test_nouveau_is_absent(cluster(), told())
    with pytest.raises(AssertionError, match=r"^node02: nouveau is loaded; blacklist it"):
        gpus.test_nouveau_is_absent(cluster(), told(node02={_gpus.LOADED: f"{MODULES}nouveau 1 0 - Live 0x0\n"}))
    with pytest.raises(AssertionError, match=r"^node01: 0000:00:06\.0 is held by vfio-pci, expected nvidia"):
        gpus.test_nouveau_is_absent(cluster(), told(node01={_gpus.CARDS: CARD.replace("nvidia", "vfio-pci")}))


@pytest.mark.seen_to_fail("INF-22")
def test_a_gpu_that_fell_off_the_bus() -> None:
    gpus.test_no_xid(cluster(), told())
    with pytest.raises(
        AssertionError, match=r"^node02: 1 errors of GPUs in the kernel's log, first: .*Xid \(PCI:0000:00"
    ):
        gpus.test_no_xid(cluster(), told(node02={read.KERNEL_LOG: f"{XID}\n"}))


def product(wrong: int = 0, count: int = 1) -> str:
    one = {"name": "NVIDIA H100 80GB HBM3", "bus": "0000:00:06.0", "memory": 85017493504, "wrong": wrong}
    return json.dumps({"devices": [one] * count})


@pytest.mark.seen_to_fail("INF-23")
def test_a_gpu_that_multiplies_wrong() -> None:
    def check(answer: str | Result) -> None:
        gpus.test_gpus_multiply(cluster({"node01": {"python3": product()}, "node02": {"python3": answer}}), Evidence())

    check(product())
    with pytest.raises(
        AssertionError, match=r"^node02: NVIDIA H100 80GB HBM3 at 0000:00:06\.0 got 4096 elements of a pr"
    ):
        check(product(wrong=4096))
    with pytest.raises(AssertionError, match=r"^node02: 0 GPUs compute, configured 1"):
        check(product(count=0))
    with pytest.raises(AssertionError, match=r"^node02: the product on its GPUs ended with 1: cuInit: unknown error"):
        check(Result((), 1, stderr="cuInit: unknown error (999)\n"))


def did(**more: object) -> str:
    """What an H200 did (driver 580.159, PyTorch 2.11.0), and what differs."""
    one = {"name": "NVIDIA H200", "number": 0, "memory": 4249.1, "matrix": 785.7, "wrong": 0, "samples": 20}
    return json.dumps({"torch": "2.11.0+cu130", "devices": [{**one, "type": "bfloat16", **more}]})


@pytest.mark.seen_to_fail("INF-23")
def test_a_gpu_that_is_slow() -> None:
    def check(answer: str | Result) -> Measurements:
        seen = measure()
        nodes = cluster({"node01": {"/venv/python": did()}, "node02": {"/venv/python": answer}})
        gpus.test_gpus_are_as_fast_as_their_kind(nodes, Runtime("/venv/python"), Evidence(), seen)
        return seen

    figures = {(one.metric, one.node): one for one in check(did()).items}
    found = figures["gpu.memory", "node02: GPU 0, NVIDIA H200"]
    assert (found.value, found.unit, found.ceiling, round(found.fraction or 0, 3)) == (4249.1, "GB/s", 4800, 0.885)
    assert figures["gpu.matrix", "node02: GPU 0, NVIDIA H200"].ceiling == 989
    with pytest.raises(
        LimitExceeded, match=r"^node02: GPU 0, NVIDIA H200: gpu\.memory is 3300 GB/s, expected at least"
    ):
        check(did(memory=3300.0))
    with pytest.raises(
        LimitExceeded, match=r"^node02: GPU 0, NVIDIA H200: gpu\.matrix is 400 TFLOP/s, expected at lea"
    ):
        check(did(matrix=400.0))
    with pytest.raises(InvalidMeasurement, match="above the physical limit"):
        check(did(matrix=1979.0))
    with pytest.raises(
        AssertionError, match=r"^node02: GPU 0, NVIDIA H200: got 3 elements of a product in bfloat16 wr"
    ):
        check(did(wrong=3))
    with pytest.raises(AssertionError, match=r"^node02: PyTorch sees 0 GPUs, configured 1"):
        check(json.dumps({"torch": "2.11.0+cpu", "devices": []}))
    with pytest.raises(AssertionError, match=r"^node02: measuring its GPUs ended with 1: RuntimeError: CUDA error"):
        check(Result((), 1, stderr="Traceback\nRuntimeError: CUDA error: unspecified launch failure\n"))
    with pytest.raises(AiHowError, match=r"^node02: measuring its GPUs said 'hello'"):
        check("hello")


def test_a_card_that_nobody_knows_is_recorded() -> None:
    seen = measure()
    name = "NVIDIA GeForce RTX 3060"
    nodes = cluster({"*": {"/venv/python": did(name=name, memory=3.0, matrix=1.0)}})
    gpus.test_gpus_are_as_fast_as_their_kind(nodes, Runtime("/venv/python"), Evidence(), seen)
    assert [(one.metric, one.node, one.verdict) for one in seen.items][:2] == [
        ("gpu.memory.unrated", f"node01: GPU 0, {name}", "recorded"),
        ("gpu.matrix.unrated", f"node01: GPU 0, {name}", "recorded"),
    ]


def test_every_known_card_has_its_source() -> None:
    cards = known_cards()
    assert {"NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S"} <= cards.keys()
    for name, card in cards.items():
        assert name.startswith("NVIDIA ")
        assert 100 < card.memory < 10_000, name
        assert 50 < card.matrix < 5_000, name
        assert "data sheet" in card.source or "white paper" in card.source, name


@pytest.mark.seen_to_fail("INF-24")
def test_a_module_of_another_kernel() -> None:
    gpus.test_module_is_built(cluster(), told())
    other = BUILT.replace("6.12.48", "6.12.38")
    with pytest.raises(
        AssertionError, match=r"^node01: DKMS has no module of NVIDIA for 6\.12\.48\+deb13-amd64; it has n"
    ):
        gpus.test_module_is_built(cluster(), told(node01={_gpus.DKMS: other}))


def test_samples_are_read_as_they_say() -> None:
    found = doctest.testmod(_gpus)
    assert (found.failed, found.attempted >= 4) == (0, True)
