"""TASK-043: containers as jobs: what they compute, that many start at once, and that Slurm's limits hold inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.apptainer import Apptainer, command
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.services.slurm import JobOptions, JobSpec, Slurm
from pytest_ai_how.services.storage import Storage

from ._containers import SMALL, cause, culprit, inside, job_folder, numbers, on_each, python, told
from ._slurm_jobs import completed, run_jobs
from ._slurm_payloads import payload

pytestmark = pytest.mark.requires("apptainer")

#: Rows and columns of the matrices of CON-10: large enough for a BLAS kernel, small enough to check element by element.
SIZE = 64
#: MiB that PyTorch needs to be imported and to multiply small matrices.
TORCH = 512
#: What opening a device answers when it is allowed: OK on a real GPU, ENXIO where no driver is behind it.
ALLOWED = frozenset({"OK", "ENXIO"})
#: How many containers CON-21 starts at once.
MANY = 20


@pytest.mark.check("CON-10")
@pytest.mark.requires("slurm", "image.pytorch")
def test_tensor_computation(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """PyTorch in a job multiplies matrices and differentiates exactly as arithmetic with whole numbers does."""
    node = slurm.cluster.on("compute")[-1].name
    call = python(registry.path("pytorch"), "container-tensor.py", str(SIZE))
    seen = told(slurm.srun(*call, nodelist=node, mem=TORCH), evidence, node)
    assert seen["node"] == node, f"{node}: the job ran on {seen['node']}"
    left, right = (_matrix(numbers(SIZE * SIZE, state)) for state in (1, 2))
    columns = list(zip(*right, strict=True))
    product = [[_dot(row, column) for column in columns] for row in left]
    vector = numbers(SIZE, 3)
    image = [_dot(row, vector) for row in left]
    # The gradient of |A x|^2 is 2 A^T A x.
    gradient = [2 * _dot(column, image) for column in zip(*left, strict=True)]
    for kind in ("product", "single", "whole"):
        rows = zip(product, seen[kind], strict=True)
        wrong = sum(a != b for mine, its in rows for a, b in zip(mine, its, strict=True))
        assert not wrong, f"{node}: {wrong} of {SIZE * SIZE} elements of the {kind} matrix product by PyTorch are wrong"
    bad = [n for n, (a, b) in enumerate(zip(gradient, seen["gradient"], strict=True)) if a != b]
    assert not bad, (
        f"{node}: element {bad[0]} of PyTorch's gradient is {seen['gradient'][bad[0]]}, expected {gradient[bad[0]]}"
    )


@pytest.mark.check("CON-14")
@pytest.mark.requires("slurm", "shared-storage")
def test_same_image_on_all_nodes_at_once(slurm: Slurm, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """One srun starts the image on all compute nodes, and all containers run at the same time: each sees all others."""
    names = slurm.cluster.on("compute").names
    image = registry.path("base")
    with job_folder(slurm, f"meet-{run_id}") as folder:
        call = python(image, "container-meet.py", folder, str(len(names)), binds=[folder])
        result = slurm.srun(*call, nodes=len(names), ntasks=len(names), ntasks_per_node=1, mem=SMALL)
    evidence.result(result, "srun of container-meet.py")
    assert result.ok, f"{culprit(result)}: srun of one container on each of {len(names)} nodes failed: {cause(result)}"
    seen = {one["node"]: one for one in map(json.loads, result.stdout.splitlines())}
    missing = sorted(set(names) - set(seen))
    assert not missing, f"{missing[0]}: no container of the job ran here; they ran on {', '.join(seen) or 'no node'}"
    for name in names:
        assert seen[name]["met"] == sorted(names), (
            f"{name}: its container met those of {seen[name]['met']} while it ran; expected {sorted(names)} at once"
        )
        assert seen[name]["container"] == image, f"{name}: ran {seen[name]['container']!r}, expected {image}"
    late = max(one["started"] for one in seen.values())
    early = min(one["ended"] for one in seen.values())
    evidence.attach("overlap", f"the last began {early - late:.3f} s before the first ended, by the nodes' clocks")


@pytest.mark.check("CON-15")
@pytest.mark.requires("slurm", "cgroup.cpu", "cpus.several")
def test_cpu_limit_inside(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """In a container on the largest node, a job may run on as many CPUs as it asked for."""
    cpus_of = {name: record.cpus for name, record in slurm.nodes().items()}
    node = max(slurm.compute, key=cpus_of.__getitem__)
    total = cpus_of[node]
    assert total > 1, (
        f"{node}: Slurm gives it {total} CPU, and no compute node more, so that a job with one can't be told to be "
        "confined; expected several, as in the cluster's YAML; do: compare `cpus` there with slurm.conf"
    )
    for cpus in (1, total):
        call = python(registry.path("base"), "container-facts.py")
        seen = told(slurm.srun(*call, nodelist=node, cpus=cpus, mem=SMALL), evidence, node)
        assert len(seen["affinity"]) == cpus, (
            f"{node}: in a container, a job with {cpus} CPUs may run on {seen['affinity']}, expected {cpus} of {total}"
        )


@pytest.mark.check("CON-15")
@pytest.mark.requires("slurm", "cgroup.memory")
def test_memory_limit_inside(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """A container that fills more memory than its job has is killed as OUT_OF_MEMORY; one that fills less completes."""
    node = slurm.cluster.on("compute")[-1].name
    call = command("exec", registry.path("base"), "python3", "-c", payload("memory_fill.py"))
    jobs = [
        JobSpec(call, name=f"fill-{fill}", nodelist=node, mem=SMALL, time=2, export=f"ALL,FILL={fill}")
        for fill in (SMALL // 8, SMALL * 2)
    ]
    small, large = run_jobs(slurm, evidence, jobs)
    completed(small)
    assert large.record.state == "OUT_OF_MEMORY", (
        f"{large.label}: filled {SMALL * 2} MiB in a container with --mem={SMALL}M and ended as {large.record.state} "
        f"({large.record.exit}), expected OUT_OF_MEMORY"
    )


@pytest.mark.check("CON-15")
@pytest.mark.requires("slurm", "gpu", "cgroup.devices")
def test_gpu_limit_inside(slurm: Slurm, registry: Registry, evidence: Evidence) -> None:
    """In a container, a job may open as many GPUs as it asked for, and is refused the others with EPERM."""
    node, total = next(((name, record.gpus) for name, record in slurm.nodes().items() if record.gpus), ("", 0))
    assert node, f"{slurm.cluster.name}: Slurm knows no node with a GPU; nothing was checked"
    for gpus in sorted({0, 1, total}):
        options: JobOptions = {"nodelist": node, "mem": SMALL}
        if gpus:
            options["gres"] = f"gpu:{gpus}"
        call = command("exec", registry.path("base"), "python3", "-c", payload("gpu_probe.py"))
        seen: Mapping[str, str] = told(slurm.srun(*call, **options), evidence, node)["devices"]
        assert len(seen) == total, f"{node}: a container sees the GPU devices {sorted(seen)}, Slurm has {total}"
        allowed = [path for path, answer in seen.items() if answer in ALLOWED]
        assert len(allowed) == gpus, (
            f"{node}: in a container, a job with {gpus} GPUs may open {allowed or 'none'}, expected {gpus} (answers: "
            f"{dict(seen)}); do: check ConstrainDevices in cgroup.conf"
        )
        others = {path: answer for path, answer in seen.items() if path not in allowed and answer != "EPERM"}
        assert not others, f"{node}: in a container, GPUs of others answer {others}, expected EPERM"


@pytest.mark.check("CON-19")
@pytest.mark.requires("shared-storage")
def test_shared_folder_bound(
    apptainer: Apptainer, registry: Registry, storage: Storage, evidence: Evidence, run_id: str
) -> None:
    """What a container writes into the bound shared folder, containers on all other nodes and the controller read.

    Bound read-only, it can't be written.
    """
    image, nodes = registry.path("base"), apptainer.cluster.on("compute")
    controller = apptainer.cluster.controller
    folder = storage.scratch(f"bound-{run_id}")
    tokens = {node.name: f"{run_id} on {node.name}; " for node in nodes}

    def write(node: Node) -> None:
        words = ("sh", "-c", 'printf %s "$1" >"/bound/$2"', "sh", tokens[node.name], node.name)
        wrote = apptainer.exec(node, image, *words, binds=[f"{folder}:/bound"])
        evidence.result(wrote)
        assert wrote.ok, f"{node.name}: {folder} bound to /bound can't be written: {wrote.stderr.strip()[-200:]}"

    def read(node: Node) -> None:
        text = f"cat {' '.join(f'/bound/{name}' for name in tokens)}; touch /bound/new"
        got = apptainer.exec(node, image, "sh", "-c", text, binds=[f"{folder}:/bound:ro"])
        evidence.result(got)
        expected = "".join(tokens.values())
        assert got.stdout == expected, f"{node.name}: /bound reads {got.stdout!r}, expected {expected!r}"
        assert not got.ok, f"{node.name}: {folder}, bound read-only, was written"
        assert "Read-only file system" in got.stderr, f"{node.name}: writing to a read-only bind gave {got.stderr!r}"

    try:
        controller.run("chown", apptainer.user, folder)
        on_each(nodes, write)
        on_each(nodes, read)
        for name, token in tokens.items():
            outside = controller.run("cat", "--", f"{folder}/{name}", check=False)
            evidence.result(outside)
            assert outside.stdout == token, (
                f"{controller.name}: {folder}/{name}, written in a container on {name}, reads {outside.stdout!r}, "
                f"expected {token!r}"
            )
    finally:
        storage.discard(folder)


@pytest.mark.exclusive
@pytest.mark.check("CON-21")
def test_many_simultaneous_starts(
    apptainer: Apptainer, registry: Registry, evidence: Evidence, measure: Measurements
) -> None:
    """Twenty containers started at once on one node all run at the same time, and all end well."""
    node = apptainer.cluster.on("compute")[0]
    start = ("python3", "-c", payload("container-start-many.py"), str(MANY), *command("exec", registry.path("base")))
    seen = inside(apptainer, node, evidence, start, timeout=180)
    assert len(seen["ends"]) == MANY, f"{node.name}: {len(seen['ends'])} containers were started, expected {MANY}"
    bad = [
        (n, complaint) for n, (status, said, complaint) in enumerate(seen["ends"], 1) if (status, said) != (0, "done")
    ]
    assert not bad, f"{node.name}: {len(bad)} of {MANY} containers failed; number {bad[0][0]} said {bad[0][1]!r}"
    assert seen["at_once"] == MANY, f"{node.name}: {seen['at_once']} containers ran at the same time, expected {MANY}"
    measure("container.start20", float(seen["seconds"]), "s", node=node.name, samples=MANY)


def _matrix(values: Sequence[int]) -> list[Sequence[int]]:
    return [values[start : start + SIZE] for start in range(0, SIZE * SIZE, SIZE)]


def _dot(row: Sequence[int], column: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(row, column, strict=True))
