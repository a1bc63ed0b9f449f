"""TASK-043: what is in an image: the packages that it declares, and real GPUs where it is given them."""

from __future__ import annotations

import pytest

from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.lock import normal
from pytest_ai_how.image.versions import mismatch
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import Slurm

from ._containers import inside, python, told
from .test_task042_gpu import gpu_nodes

pytestmark = pytest.mark.requires("apptainer")

#: The modules that packages bring, as Debian names them; wheels name them as they are imported.
MODULES = {"python3-numpy": "numpy", "python3-mpi4py": "mpi4py", "numpy": "numpy", "torch": "torch"}
#: MiB that a process with a CUDA context needs of the machine's own memory.
CUDA_MEMORY = 2048


@pytest.mark.check("CON-09")
@pytest.mark.requires("image.pytorch", "owned")
def test_content_equals_its_declaration(apptainer: Apptainer, registry: Registry, evidence: Evidence) -> None:
    """Each image has Debian's packages and the wheels of its roles as declared, and its modules load with just these.

    Where PyTorch is declared for CPUs alone it has neither CUDA nor NCCL. Only our own images are declared to us.
    """
    node, shipped = apptainer.cluster.on("compute")[0], Source.shipped()
    names = [entry.name for entry in registry.catalog()]
    assert "pytorch" in names, f"{registry.cluster.controller.name}: {registry.root} lists {names}, not pytorch"
    for name in names:
        definition = shipped.define(registry.cluster.config.containers.served.get(name, name))
        call = python(registry.path(name), "container-content.py", *definition.packages)
        found = inside(apptainer, node, evidence, call)
        where = f"{node.name}: image {name!r}"
        _judge_packages(where, found["packages"], definition)
        wheels = {normal(wheel): version for wheel, version in found["wheels"].items()}
        _judge_wheels(where, dict(wheels), definition)
        _judge_modules(where, found["packages"] | wheels, found["modules"])
        if "torch" in found["modules"]:
            declared = any(package.startswith("nvidia-") for package in definition.wheels)
            built = {"CUDA": bool(found["cuda"]), "NCCL": bool(found["nccl"])}
            assert built == dict.fromkeys(built, declared), (
                f"{where}: PyTorch is built with CUDA {found['cuda']}, NCCL {found['nccl']}; expected "
                f"{'both' if declared else 'neither'}, as its role declares"
            )


def _judge_packages(where: str, found: dict[str, str], definition: Definition) -> None:
    assert definition.packages, f"{where}: its roles declare no package; nothing to compare"
    missing = [name for name in definition.packages if name not in found]
    assert not missing, f"{where}: package {missing[0]} is not in it; expected {', '.join(definition.packages)}"
    for name, demand in definition.demands.items():
        if name in definition.packages:
            wrong = mismatch(found[name], demand)
            assert not wrong, f"{where}: {name} is {found[name]}, {wrong}, as configs/versions.yaml declares"


def _judge_wheels(where: str, found: dict[str, str], definition: Definition) -> None:
    for name, version in definition.wheels.items():
        seen = found.pop(name, "not there")
        assert seen == version, f"{where}: Python's package {name} is {seen}; expected {version}, as its lock declares"
    assert not found or not definition.wheels, (
        f"{where}: Python's package {min(found)} is in it, and in no lock; expected {len(definition.wheels)} packages"
    )


def _judge_modules(where: str, packages: dict[str, str], modules: dict[str, str]) -> None:
    for package, module in MODULES.items():
        if package in packages:
            assert module in modules, f"{where}: `import {module}` fails, although {package} is installed"
            # "1:2.2.4+ds-1" is upstream's 2.2.4; what comes after + is Debian's or the builder's own.
            upstream = packages[package].rpartition(":")[2].partition("-")[0].partition("+")[0]
            version = modules[module].partition("+")[0]
            assert version == upstream, (
                f"{where}: {module} is {modules[module]}, its package {package} {packages[package]}; expected one "
                "version: is another one found before it?"
            )


@pytest.mark.check("CON-11")
@pytest.mark.requires("slurm", "gpu.real", "shared-storage")
def test_gpus_compute_inside(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """With --nv a container has as many GPUs as its job was given, one or all of its node's, and computes rightly."""
    for node, total in gpu_nodes(slurm).items():
        for count in dict.fromkeys((1, total)):
            call = python(registry.path("base"), "gpu_compute.py", flags=["nv"])
            ran = slurm.srun(*call, nodelist=node, mem=CUDA_MEMORY, gres=f"gpu:{count}")
            found = told(ran, evidence, node)
            assert found["devices"] == count, (
                f"{node}: a container of a job with gpu:{count} has {found['devices']} GPUs; expected {count}; do: "
                "check ConstrainDevices in cgroup.conf"
            )
            assert found["computed"], f"{node}: a container of a job with gpu:{count} computed nothing"
            assert not found["wrong"], (
                f"{node}: in a container of a job with gpu:{count}, {found['wrong']} of {found['computed']} numbers "
                "that the GPU computed are wrong"
            )


@pytest.mark.check("CON-12")
@pytest.mark.requires("slurm", "gpu.real", "shared-storage")
def test_no_gpu_without_nv(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """Without --nv a container has no GPU even where its job has one; with it, the same look finds that one."""
    for node in gpu_nodes(slurm):
        seen = {}
        for flags in ((), ("nv",)):
            call = python(registry.path("base"), "container-gpus.py", flags=flags)
            ran = slurm.srun(*call, nodelist=node, mem=CUDA_MEMORY, gres="gpu:1")
            seen[flags] = told(ran, evidence, node)["devices"]
        assert seen["nv",], f"{node}: even with --nv a container has no GPU; nothing was shown by its having none"
        assert not seen[()], f"{node}: without --nv a container has {seen[()]} GPUs; expected none"
