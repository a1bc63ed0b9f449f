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

#: What dpkg-query and Python said in the pytorch image (Debian 13).
VERSIONS = {"python3": "3.13.5-1", "python3-numpy": "1:2.2.4+ds-1", "python3-torch": "2.6.0+dfsg-7"}
MODULES = {"numpy": "2.2.4", "torch": "2.6.0+debian"}


def told(**changes: Any) -> str:
    """What is in an image that has what its roles declare."""
    packages = dict.fromkeys(Source.shipped().define("pytorch").packages, "4.0.3-1") | VERSIONS
    modules = MODULES | ({"mpi4py": "4.0.3"} if "python3-mpi4py" in packages else {})
    return json.dumps({"packages": packages, "modules": modules, "cuda": None, "nccl": False} | changes)


def check(answer: str) -> None:
    cluster = machines({"node01": [(runs("container-content.py"), answer)]})
    content.test_content_equals_its_declaration(Apptainer(cluster), Registry(cluster), Evidence())


@pytest.mark.seen_to_fail("CON-09")
def test_images_that_hold_something_else() -> None:
    check(told())
    found = json.loads(told())
    with pytest.raises(
        AssertionError, match=r"^node01: image 'base': package python3-numpy is not in it; expected pyth"
    ):
        check(told(packages={"python3": VERSIONS["python3"]}))
    with pytest.raises(
        AssertionError, match=r"^node01: image 'pytorch': python3-torch is 2\.4\.0-1, expected series 2\.6, as configs"
    ):
        check(
            told(
                packages=found["packages"] | {"python3-torch": "2.4.0-1"}, modules=found["modules"] | {"torch": "2.4.0"}
            )
        )
    with pytest.raises(AssertionError, match=r"^node01: image 'base': `import torch` fails, although python3-torch is"):
        check(told(modules={"numpy": "2.2.4"}))
    with pytest.raises(
        AssertionError, match=r"^node01: image 'base': torch is 2\.4\.0, its package python3-torch 2\.6\.0"
    ):
        check(told(modules=found["modules"] | {"torch": "2.4.0"}))
    with pytest.raises(
        AssertionError, match=r"^node01: image 'base': PyTorch is built with CUDA 12\.1, NCCL True; expect"
    ):
        check(told(cuda="12.1", nccl=True))


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
