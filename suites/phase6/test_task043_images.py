"""TASK-043: images: whole, replaced while used, missing, damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import pytest

from pytest_ai_how.cluster import Nodes
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import JobSpec, Slurm
from pytest_ai_how.services.storage import Storage
from pytest_ai_how.shell import Result

from ._containers import SMALL, job_folder, python, told
from ._containers import judged as readable
from ._slurm_jobs import Run, cancelling, collect, completed, judged, submit

pytestmark = pytest.mark.requires("apptainer")

#: What ``apptainer sif add --partarch`` calls processors (1.4.5).
PARTITION_ARCHITECTURES = MappingProxyType({"amd64": "2", "arm64": "4", "ppc64le": "6", "riscv64": "11"})
GIB = 2**30


@pytest.mark.check("CON-07")
def test_images_are_whole(apptainer: Apptainer, registry: Registry, evidence: Evidence, measure: Measurements) -> None:
    """Each image fits its own table, has one file system to run on, and the catalogue's digest on every node.

    Images are not signed: what holds them to what was built is the digest.
    """
    controller = apptainer.cluster.controller
    with readable():
        catalog = registry.catalog()
    assert catalog, f"{controller.name}: {registry.root} lists no image; nothing was verified"
    for entry in catalog:
        path = f"{registry.root}/{entry.path}"
        objects, listed = apptainer.objects(controller, path)
        evidence.result(listed)
        assert objects, f"{controller.name}: {path} has no table of objects: {listed.stderr.strip()[-200:]!r}"
        systems = [each for each in objects if each.is_system]
        assert len(systems) == 1, f"{controller.name}: {path} has {len(systems)} file systems to run on, expected one"
        stat = controller.run("stat", "--format=%s", "--", path, check=False)
        evidence.result(stat)
        assert stat.ok, f"{controller.name}: {path} can't be measured: {stat.stderr.strip()}"
        size, end = int(stat.stdout), max(each.end for each in objects)
        assert size >= end, f"{controller.name}: {path} has {size} bytes, its table goes up to {end}: it was cut short"
        for node, (digest, result) in registry.digests(path).items():
            evidence.result(result)
            assert digest == entry.sha256, (
                f"{node}: {path} reads with sha256 {digest[:16] or 'nothing'}, the catalogue says {entry.sha256[:16]}"
            )
        measure("container.image_size", size / GIB, "GiB", node=entry.name)


@pytest.mark.check("CON-22")
@pytest.mark.requires("slurm", "shared-storage")
def test_image_replaced_while_a_job_runs(
    slurm: Slurm, apptainer: Apptainer, registry: Registry, evidence: Evidence, run_id: str
) -> None:
    """A job whose image is replaced goes on with the old one; a job begun then has the new one, and so its digest."""
    node = slurm.cluster.on("compute")[0]
    source = registry.path("base")
    with (
        job_folder(slurm, f"replaced-{run_id}") as folder,
        replaceable(node, registry, source, run_id) as path,
        cancelling(slurm) as ids,
    ):
        first = next(iter(registry.digests(path).values()))[0]
        call = python(path, "container-outlive.py", folder, "/generation", binds=[folder])
        job = JobSpec(call, name="outlive", nodelist=node.name, mem=SMALL, time=2)
        ids.append(submit(slurm, job))
        with judged():
            _await_file(slurm, f"{folder}/original", f"job {ids[0]}")
        changed = _next_generation(apptainer, node, evidence, source, folder)
        node.run("cp", "--", changed, f"{path}.new")
        node.run("mv", "-T", "--", f"{path}.new", path)
        slurm.query("touch", f"{folder}/go")
        new = told(slurm.srun(*call, nodelist=node.name, mem=SMALL), evidence, node.name)
        second = registry.digests(path)
        run = completed(collect(slurm, evidence, ids)[0])
    old = _told_by(run)
    evidence.attach("digests", f"before: {first}\nafter: {second}")
    assert (old["first"], old["last"], old["sum"]) == ("original", "original", sum(range(1000))), (
        f"job {run.id}: began with the {old['first']} image and, after it was replaced, read {old['last']} with a sum "
        f"of {old['sum']}; expected the original and {sum(range(1000))} all along"
    )
    assert new["first"] == "replaced", f"{node.name}: a job begun after the replacement has the {new['first']} image"
    for name, (digest, result) in second.items():
        evidence.result(result)
        assert digest not in {first, ""}, (
            f"{name}: {path} reads with sha256 {digest[:16] or 'nothing'} after it was replaced; "
            f"expected another than before, {first[:16]}"
        )


@dataclass(frozen=True, slots=True)
class Damage:
    """A way in which an image is no image: the shell text that makes ``$2`` of the good image ``$1``."""

    name: str
    made_by: str


DAMAGES = (
    Damage("missing", 'rm -f -- "$2"'),
    Damage("empty", ': >"$2"'),
    Damage("truncated", 'head -c 1000000 -- "$1" >"$2"'),
    Damage("overwritten", '{ head -c 65536 /dev/zero; tail -c +65537 -- "$1"; } >"$2"'),
)


@pytest.mark.check("CON-23")
@pytest.mark.requires("shared-storage")
def test_missing_or_corrupt_image(
    apptainer: Apptainer, registry: Registry, storage: Storage, evidence: Evidence, measure: Measurements, run_id: str
) -> None:
    """An image that is missing, empty, cut short or overwritten fails soon on every node, and is said to be the cause.

    Bytes that changed in the middle of a whole image show where its digest is compared (CON-07).
    """
    nodes = apptainer.cluster.on("compute")
    source, folder = registry.path("base"), storage.scratch(f"damaged-{run_id}")
    slowest = 0.0
    try:
        for damage in DAMAGES:
            path = f"{folder}/{damage.name}.sif"
            nodes[0].run("sh", "-c", damage.made_by, "sh", source, path)
            for node, result in _start_on(apptainer, nodes, path).items():
                evidence.result(result)
                _judge_failure(node, damage, result)
                slowest = max(slowest, result.seconds)
        good = apptainer.exec(nodes[0], source, "true")
        evidence.result(good, f"{nodes[0].name}: the same with the good image")
        assert good.ok, f"{nodes[0].name}: the good image fails too: {good.stderr.strip()[-200:]}"
    finally:
        storage.discard(folder)
    measure("container.missing_image", slowest, "s", samples=len(DAMAGES) * len(nodes))


def _start_on(apptainer: Apptainer, nodes: Nodes, path: str) -> dict[str, Result]:
    return nodes.map(lambda node: apptainer.exec(node, path, "true"))


def _judge_failure(node: str, damage: Damage, result: Result) -> None:
    """It ended by itself, with a status that says so, and its last words are about the image."""
    last = (result.stderr.strip() or "nothing on stderr").splitlines()[-1]
    assert result.returncode > 0, f"{node}: a container of a {damage.name} image ended with {result.returncode}: {last}"
    assert re.match(r"FATAL: .*\bimage\b", last), (
        f"{node}: a container of a {damage.name} image failed with {last!r}; expected FATAL and a word about the image"
    )


@contextmanager
def replaceable(node: Node, registry: Registry, source: str, run_id: str) -> Iterator[str]:
    """A copy of an image in the registry that may be replaced, for the time of the block."""
    # The name says to the catalogue's check that it is a check's own and temporary.
    path = f"{registry.root}/custom-images/visible-{run_id}-replaced.sif"
    try:
        node.run("cp", "--", source, path, timeout=60)
        yield path
    finally:
        node.run("rm", "-f", "--", path, f"{path}.new")


def _next_generation(apptainer: Apptainer, node: Node, evidence: Evidence, source: str, folder: str) -> str:
    """Make an image that differs from ``source`` by a file ``/generation``, without packing it anew; its path.

    The file system is taken out of the image, gets the file appended, and is put into a new one.
    """
    system = next(each for each in apptainer.objects(node, source)[0] if each.is_system)
    architecture = PARTITION_ARCHITECTURES[system.architecture]
    script = f"""
        set -e
        cd "$1"
        printf replaced >generation
        apptainer sif dump {system.id} "$2" >root.squashfs
        mksquashfs generation root.squashfs -quiet -no-progress -no-recovery
        apptainer sif new replaced.sif
        apptainer sif add --datatype 4 --parttype 2 --partfs 1 --partarch {architecture} --groupid 1 \\
            replaced.sif root.squashfs
    """
    made = node.run("sh", "-c", script, "sh", folder, source, timeout=60, user=apptainer.user)
    evidence.result(made, f"{node.name}: the image that replaces the other")
    return f"{folder}/replaced.sif"


def _await_file(slurm: Slurm, path: str, where: str) -> None:
    wait_for(
        lambda: slurm.query("test", "-e", path, check=False).ok,
        within=30 * slurm.cluster.pace,
        what=f"running (it makes {path})",
        where=where,
    )


def _told_by(run: Run) -> dict[str, Any]:
    """What the payload of a batch job printed."""
    try:
        return cast("dict[str, Any]", json.loads(run.stdout))
    except ValueError:
        raise AssertionError(f"{run.label}: printed {run.stdout[-200:]!r}, expected JSON") from None
