"""TASK-042: GPUs as a generic resource: counted, given out, kept apart.

Simulated GPUs are character devices that no driver is behind: opening one fails with ENXIO when the job is allowed to,
and with EPERM when its devices cgroup refuses. They prove allocation and isolation; to compute takes a real one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import JobOptions, JobSpec, Slurm

from ._slurm_jobs import Run, completed, ran_on, run_job, run_jobs
from ._slurm_payloads import payload
from ._slurm_probes import gpu_devices

pytestmark = pytest.mark.requires("slurm", "gpu")
#: What opening a device answers when the job may: OK on a real GPU, ENXIO where no driver is behind it.
ALLOWED = frozenset({"OK", "ENXIO"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What a job saw of GPUs: the answer of opening each device of its node, of /dev/null, and its environment."""

    run: Run
    devices: Mapping[str, str]
    null: str
    environment: Mapping[str, str]

    @property
    def allowed(self) -> list[str]:
        """The devices that it may open."""
        return [path for path, answer in self.devices.items() if answer in ALLOWED]


def probe(slurm: Slurm, evidence: Evidence, node: str, gpus: int) -> Seen:
    """Run a job with ``gpus`` GPUs on a node that tells what it sees."""
    name = f"gpu-{gpus}"
    options: JobOptions = {"name": name, "nodelist": node, "mem": 64}
    if gpus:
        options["gres"] = f"gpu:{gpus}"
    job = JobSpec(payload("gpu_probe.py"), **options)
    run = completed(ran_on(node, run_job(slurm, evidence, job)))
    told = json.loads(run.stdout)
    assert told["devices"], f"{node}: the job sees no GPU device in /dev at all; nothing was compared"
    return Seen(run, told["devices"], told["null"], told["environment"])


def gpu_nodes(slurm: Slurm) -> dict[str, int]:
    """The compute nodes that Slurm gives GPUs, with how many."""
    found = {name: record.gpus for name, record in slurm.nodes().items() if record.gpus}
    assert found, f"{slurm.cluster.name}: Slurm knows no node with a GPU; nothing was checked"
    return found


@pytest.mark.check("SLU-31")
def test_gres_count_equals_the_devices(slurm: Slurm, evidence: Evidence) -> None:
    """Slurm gives each node as many GPUs as there are devices in it, and none where there are none."""
    records = slurm.nodes()
    evidence.attach("scontrol show node", "\n".join(map(str, records.values())))
    found = slurm.cluster.on("compute").map(partial(gpu_devices, evidence=evidence))
    problems = []
    for node, devices in found.items():
        claimed = records[node].gpus if node in records else 0
        if claimed != len(devices):
            problems.append(
                f"{node}: Slurm has gres/gpu={claimed}, the node has {len(devices)} GPU devices "
                f"({', '.join(devices) or 'none'}); expected as many; do: correct gres.conf and NodeName in slurm.conf"
            )
    assert not problems, "\n".join(problems)
    assert any(found.values()), f"{slurm.cluster.name}: no compute node has a GPU device; nothing was counted"


@pytest.mark.check("SLU-32")
@pytest.mark.requires("shared-storage")
@pytest.mark.requires("cgroup.devices")
def test_a_job_with_one_gpu_sees_one(slurm: Slurm, evidence: Evidence) -> None:
    """On each node, a job with one GPU may open exactly one, is told which, and, if it is real, computes on it."""
    for node in gpu_nodes(slurm):
        sees_one(slurm, evidence, node)


def sees_one(slurm: Slurm, evidence: Evidence, node: str) -> None:
    """Run a job with one GPU on a node and judge what it saw."""
    seen = probe(slurm, evidence, node, 1)
    assert len(seen.allowed) == 1, (
        f"{node}: job {seen.run.id} with gres=gpu:1 may open {seen.allowed or 'no GPU'}, expected exactly one "
        f"(answers: {dict(seen.devices)}); do: check ConstrainDevices in cgroup.conf"
    )
    index = seen.environment.get("SLURM_JOB_GPUS", "")
    assert seen.allowed[0].removeprefix("/dev/fakegpu").removeprefix("/dev/nvidia") == index, (
        f"{node}: job {seen.run.id} may open {seen.allowed[0]}, but SLURM_JOB_GPUS is {index!r}"
    )
    visible = seen.environment.get("CUDA_VISIBLE_DEVICES", "")
    assert len(visible.split(",")) == 1, f"{node}: job {seen.run.id} has CUDA_VISIBLE_DEVICES={visible!r}, expected one"
    assert visible, f"{node}: job {seen.run.id} has no CUDA_VISIBLE_DEVICES, expected one index"
    if gpu_kind(slurm, node) == "simulated":
        evidence.attach("computing", f"{node}: not put to the test: its GPUs are simulated; it needs gpu.real")
    else:
        computes(slurm, evidence, node)


def gpu_kind(slurm: Slurm, node: str) -> str:
    """What kind of GPUs the cluster's YAML says a node has; real ones where it says nothing."""
    gpus = slurm.cluster[node].config.gpus
    return gpus.kind if gpus else "nvidia"


def computes(slurm: Slurm, evidence: Evidence, node: str) -> None:
    """Run a kernel in a job with one GPU and compare all that it computed."""
    job = JobSpec(payload("gpu_compute.py"), name="gpu-compute", nodelist=node, mem=1024, gres="gpu:1")
    run = completed(run_job(slurm, evidence, job))
    told = json.loads(run.stdout)
    assert told["devices"] == 1, f"{node}: job {run.id} with gres=gpu:1 has {told['devices']} CUDA devices, expected 1"
    assert told["computed"], f"{node}: job {run.id} computed nothing"
    assert not told["wrong"], f"{node}: job {run.id} has {told['wrong']} of {told['computed']} numbers wrong"


@pytest.mark.check("SLU-33")
@pytest.mark.requires("shared-storage")
@pytest.mark.requires("cgroup.devices")
def test_a_job_without_gres_sees_none(slurm: Slurm, evidence: Evidence) -> None:
    """A job that asked for no GPU may open none, on any node that has some."""
    for node in gpu_nodes(slurm):
        seen = probe(slurm, evidence, node, 0)
        assert not seen.allowed, (
            f"{node}: job {seen.run.id} without GRES may open {seen.allowed}, expected no GPU; do: check "
            "ConstrainDevices in cgroup.conf"
        )
        told = {name: seen.environment[name] for name in ("CUDA_VISIBLE_DEVICES",) if seen.environment.get(name)}
        assert not told, f"{node}: job {seen.run.id} without GRES was told {told}, expected no GPU"


@pytest.mark.check("SLU-38")
@pytest.mark.requires("shared-storage")
@pytest.mark.requires("cgroup.devices")
def test_device_whitelist(slurm: Slurm, evidence: Evidence) -> None:
    """On each node, a device outside of a job's allocation is refused with EPERM; its own and /dev/null open."""
    for node in gpu_nodes(slurm):
        refuses_others(slurm, evidence, node)


def refuses_others(slurm: Slurm, evidence: Evidence, node: str) -> None:
    """Run jobs with no and with one GPU on a node, and judge the answer of each device."""
    refused = 0
    for gpus in (0, 1):
        seen = probe(slurm, evidence, node, gpus)
        answers = sorted(seen.devices.values())
        expected = [answer for answer in answers if answer in ALLOWED][:gpus] + ["EPERM"] * (len(answers) - gpus)
        assert answers == sorted(expected), (
            f"{node}: job {seen.run.id} with {gpus} GPUs got {dict(seen.devices)}; expected {gpus} to open and EPERM "
            "for the others; do: check ConstrainDevices in cgroup.conf"
        )
        assert seen.null == "OK", f"{node}: job {seen.run.id} cannot open /dev/null: {seen.null}"
        refused += answers.count("EPERM")
    assert refused, f"{node}: no device was refused; nothing was proven"


@pytest.mark.check("SLU-34")
@pytest.mark.requires("shared-storage")
def test_contention(slurm: Slurm, evidence: Evidence) -> None:
    """More jobs than GPUs: never more GPUs in use than there are, no GPU in two jobs at once, and all jobs finish."""
    node, total = min(gpu_nodes(slurm).items(), key=lambda item: item[1])
    # The first job takes all GPUs but one CPU only: what the others then wait for is GPUs.
    wanted = [total, *[1] * (total + 1)]
    jobs = [
        JobSpec(
            payload("gpu_hold.sh"),
            name=f"gpu-hold-{n}",
            nodelist=node,
            mem=16,
            gres=f"gpu:{count}",
            export="ALL,HOLD=0.5",
        )
        for n, count in enumerate(wanted)
    ]
    evidence.attach("requests", f"{wanted} GPUs on {node}, which has {total}")
    runs = tuple(map(completed, run_jobs(slurm, evidence, jobs, within=90)))
    problems = overlaps(runs, total)
    assert not problems, "\n".join(problems)
    for run, count in zip(runs, wanted, strict=True):
        granted = run.record.tres.get("gres/gpu", 0)
        assert granted == count, f"{run.label}: the accounting has {granted} GPUs for it, it asked for {count}"


def overlaps(runs: Sequence[Run], total: int) -> list[str]:
    """Find moments with more than ``total`` GPUs in use, and GPUs that two jobs held at once, by what the jobs said."""
    held = {run.id: holding(run) for run in runs}
    problems = []
    for run in runs:
        start = held[run.id][1]
        busy = sum(len(gpus) for gpus, since, until in held.values() if since <= start < until)
        if busy > total:
            problems.append(f"{run.node}: {busy} GPUs in use when job {run.id} began, there are {total}")
    for first, second in combinations(runs, 2):
        (gpus, since, until), (others, begun, ended) = held[first.id], held[second.id]
        if gpus & others and since < ended and begun < until:
            problems.append(f"{first.node}: jobs {first.id} and {second.id} held GPU {sorted(gpus & others)} at once")
    return problems


def holding(run: Run) -> tuple[frozenset[str], float, float]:
    """Which GPUs a job of ``gpu_hold.sh`` held, from when to when (Unix seconds)."""
    said = dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)
    gpus = frozenset(said.get("gpus", "").split(",")) - {""}
    assert gpus, f"{run.label}: was told of no GPU; it said {run.stdout!r}"
    return gpus, float(said["from"]), float(said["to"])


@pytest.mark.check("SLU-35")
@pytest.mark.requires("shared-storage")
def test_more_gpus_than_exist_are_refused(slurm: Slurm, evidence: Evidence) -> None:
    """A job that asks for more GPUs than any node has is refused at once, with a reason, and does not stay."""
    most = max(gpu_nodes(slurm).values())
    result = slurm.try_submit(JobSpec("true", name="gpu-too-many", nodes=1, gres=f"gpu:{most + 1}", mem=16))
    evidence.result(result)
    if result.ok:
        slurm.cancel(int(result.stdout.split(";")[0]))
    assert not result.ok, (
        f"{result.node}: sbatch accepted gpu:{most + 1} where no node has more than {most} (it said "
        f"{result.stdout.strip()!r}); expected a refusal"
    )
    reason = result.stderr.partition("submission failed:")[2].strip()
    assert reason, f"{result.node}: sbatch refused without a reason: {result.stderr.strip()!r}; expected why"
    left = [job.id for job in slurm.jobs().values() if job.name == "gpu-too-many" and not job.final]
    assert not left, f"{result.node}: the refused job is in the queue as {left}"
