"""The checks of what is in an image, and of real GPUs in it, go red for the right reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_ai_how.image.definitions import Source
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from suites.phase6 import test_task043_content as content
from tests.fakes import fake_cluster

from .task042_fakes import nodes_json
from .task043_fakes import CATALOG, ROOT, machines, runs

#: What dpkg-query and Python said in the images base (Debian 13) and pytorch (Debian 12 and wheels).
BASE: dict[str, Any] = {
    "packages": {"python3": "3.13.5-1", "python3-numpy": "1:2.2.4+ds-1"},
    "wheels": {},
    "modules": {"numpy": "2.2.4"},
}


def trained(**changes: Any) -> dict[str, Any]:
    """What is in an image with PyTorch that has what its roles declare."""
    wheels = Source.shipped().define("pytorch").wheels
    modules = {name: wheels[name] for name in ("numpy", "torch")}
    told = {"packages": {"python3": "3.11.2-1+b1"}, "wheels": wheels, "modules": modules, "cuda": None, "nccl": False}
    return told | changes


def check(base: dict[str, Any], pytorch: dict[str, Any]) -> None:
    def told(argv: tuple[str, ...]) -> str:
        return json.dumps(base if f"{ROOT}/base-images/base.sif" in argv else pytorch)

    cluster = machines({"node01": [(runs("container-content.py"), told)]})
    content.test_content_equals_its_declaration(Apptainer(cluster), Registry(cluster), Evidence())


@pytest.mark.seen_to_fail("CON-09")
@pytest.mark.parametrize(
    ("base", "pytorch", "message"),
    [
        ({"packages": {"python3": "3.13.5-1"}}, {}, "'base': package python3-numpy is not in it; expected pyth"),
        (
            {"packages": {"python3": "3.13.5-1", "python3-numpy": "1:2.1.0-1"}, "modules": {"numpy": "2.1.0"}},
            {},
            r"'base': python3-numpy is 1:2\.1\.0-1, expected series 2\.2, as configs",
        ),
        ({"modules": {}}, {}, "'base': `import numpy` fails, although python3-numpy is installed"),
        ({"modules": {"numpy": "2.4.6"}}, {}, r"'base': numpy is 2\.4\.6, its package python3-numpy 1:2\.2\.4"),
        ({}, {"packages": {"python3": "3.13.5-1"}}, r"'pytorch': python3 is 3\.13\.5-1, expected series 3\.11, as"),
        ({}, {"wheels": {"torch": "2.13.0+cpu"}}, "'pytorch': Python's package absl-py is not there; expected "),
        (
            {},
            {"wheels": trained()["wheels"] | {"torch": "2.13.0"}},
            r"'pytorch': Python's package torch is 2\.13\.0; expected 2\.13\.0\+cpu, as its lock",
        ),
        (
            {},
            {"wheels": trained()["wheels"] | {"Left_Pad": "1.0"}},
            "'pytorch': Python's package left-pad is in it, and in no lock; expected ",
        ),
        ({}, {"modules": {"numpy": "2.4.6"}}, "'pytorch': `import torch` fails, although torch is installed"),
        ({}, {"modules": {"torch": "2.6.0"}}, "'pytorch': `import numpy` fails"),
        (
            {},
            {"modules": trained()["modules"] | {"torch": "2.4.0"}},
            r"'pytorch': torch is 2\.4\.0, its package torch 2\.13\.0\+cpu; expected one version",
        ),
        ({}, {"cuda": "13.0", "nccl": True}, r"'pytorch': PyTorch is built with CUDA 13\.0, NCCL True; expect"),
    ],
)
def test_images_that_hold_something_else(base: dict[str, Any], pytorch: dict[str, Any], message: str) -> None:
    check(BASE, trained())
    with pytest.raises(AssertionError, match=f"^node01: image {message}"):
        check(BASE | base, trained(**pytorch))


@pytest.mark.seen_to_fail("CON-09")
def test_a_registry_without_the_image_that_is_declared() -> None:
    cluster = machines({})
    cluster.controller.transport.files[f"{ROOT}/.registry/catalog.yaml"] = b"images: []"  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match=r"^controller: /mnt/shared/containers lists \[\], not pytorch"):
        content.test_content_equals_its_declaration(Apptainer(cluster), Registry(cluster), Evidence())


def gpus(*answers: dict[str, Any] | Result) -> tuple[Slurm, Registry]:
    """A cluster whose jobs in containers tell these, one after the other."""
    said: list[Any] = [json.dumps(one) if isinstance(one, dict) else one for one in answers]
    rules: list[Any] = [("scontrol show node", nodes_json()), ("mkdir -p", ""), ("srun", said)]
    cluster = fake_cluster({"controller": rules}, files={f"{ROOT}/.registry/catalog.yaml": CATALOG.encode()})
    return Slurm(cluster, run="r1"), Registry(cluster)


def computed(devices: int, **changes: int) -> dict[str, Any]:
    return {"devices": devices, "computed": 65536, "wrong": 0} | changes


@pytest.mark.seen_to_fail("CON-11")
def test_gpus_that_a_container_has_too_many_of_or_that_compute_wrongly() -> None:
    def compute(*answers: dict[str, Any] | Result) -> None:
        content.test_gpus_compute_inside(*gpus(*answers), Evidence())

    compute(computed(1), computed(2), computed(1), computed(2))
    with pytest.raises(AssertionError, match=r"^node01: a container of a job with gpu:1 has 2 GPUs; expected 1; do:"):
        compute(computed(2))
    with pytest.raises(AssertionError, match=r"^node01: a container of a job with gpu:2 has 1 GPUs; expected 2"):
        compute(computed(1))
    with pytest.raises(AssertionError, match=r"^node01: in a container of a job with gpu:1, 3 of 65536 numbers that"):
        compute(computed(1, wrong=3))
    with pytest.raises(AssertionError, match=r"^node01: a container of a job with gpu:1 computed nothing"):
        compute(computed(1, computed=0))
    with pytest.raises(AssertionError, match=r"^node01: .* ended with 1: OSError: libcuda\.so\.1: cannot open"):
        compute(Result((), 1, stderr="OSError: libcuda.so.1: cannot open shared object file\n"))


@pytest.mark.seen_to_fail("CON-12")
def test_a_gpu_that_nobody_asked_for() -> None:
    def without(*devices: int) -> None:
        content.test_no_gpu_without_nv(*gpus(*({"devices": one, "why": ""} for one in devices)), Evidence())

    without(0, 1, 0, 1)
    with pytest.raises(AssertionError, match=r"^node01: without --nv a container has 1 GPUs; expected none"):
        without(1, 1)
    with pytest.raises(AssertionError, match=r"^node01: even with --nv a container has no GPU; nothing was shown"):
        without(0, 0)
