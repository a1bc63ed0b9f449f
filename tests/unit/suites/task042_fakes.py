"""A Slurm of pretended machines: what slurmctld, the accounting and the shared storage say about given jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import Answers, Matcher
from tests.fakes import fake_cluster

DATA = Path(__file__).parents[2] / "data" / "slurm"
PARTITIONS = (DATA / "24.11.5-scontrol-partition.v0.0.42.json").read_text()
FOLDER = "/mnt/shared/jobs/r1"
Rules = Sequence[tuple[Matcher, Answers]]
REFUSED = Result(
    (), 1, stderr="sbatch: error: Batch job submission failed: Requested node configuration is not available\n"
)


@dataclass(frozen=True)
class FakeJob:
    """A job as Slurm 24.11.5 records it. ``seen`` are the states of successive looks at it alone, last one kept."""

    name: str
    id: int
    stdout: str = ""
    state: str = "COMPLETED"
    code: int = 0
    signal: int = 0
    seen: tuple[str, ...] = ()
    reason: str = "None"
    nodes: str = "node01"
    times: tuple[int, int, int] = (1795449000, 1795449000, 1795449001)
    record: Mapping[str, Any] = field(default_factory=dict)
    tres: Mapping[str, int] = field(default_factory=dict)
    array: tuple[int, int] | None = None
    workdir: str = FOLDER
    start_seen: tuple[int, ...] = ()
    restarts: int = 0

    @property
    def number(self) -> str:
        return f"{self.array[0]}_{self.array[1]}" if self.array else str(self.id)

    @property
    def exit(self) -> dict[str, Any]:
        return {"return_code": number(self.code), "signal": {"id": number(self.signal)}}

    def raw(self, state: str, start: int | None = None) -> dict[str, Any]:
        """What ``scontrol show job --json`` has of it."""
        found = sample("scontrol-job", "jobs", 2)
        submit, begun, end = self.times
        array = self.array or (0, None)
        return found | {
            "job_id": self.id,
            "name": self.name,
            "job_state": state.split("+"),
            "state_reason": self.reason,
            "nodes": "" if state == "PENDING" else self.nodes,
            "exit_code": self.exit,
            "current_working_directory": self.workdir,
            "submit_time": number(submit),
            "start_time": number(begun if start is None else start),
            "end_time": number(end),
            "restart_cnt": self.restarts,
            "array_job_id": number(array[0] or 0),
            "array_task_id": number(array[1]) if self.array else {"set": False, "number": 0},
        }

    def accounted(self) -> dict[str, Any]:
        """What ``sacct --json`` has of it."""
        found = deepcopy(sample("sacct", "jobs", 2))
        submit, start, end = self.times
        found["time"] |= {"submission": submit, "start": start, "end": end, "elapsed": end - start}
        listed = [{"type": k.split("/")[0], "name": k.partition("/")[2], "count": v} for k, v in self.tres.items()]
        array = {"job_id": self.array[0], "task_id": number(self.array[1])} if self.array else found["array"]
        return (
            found
            | {
                "job_id": self.id,
                "name": self.name,
                "state": {"current": [self.state]},
                "exit_code": self.exit,
                "nodes": self.nodes,
                "array": array,
                "cluster": "local",
                "tres": {"allocated": listed},
            }
            | self.record
        )


def number(value: int | None) -> dict[str, Any]:
    return {"set": value is not None, "infinite": False, "number": value or 0}


def sample(command: str, key: str, id: int) -> dict[str, Any]:
    entries = json.loads((DATA / f"24.11.5-{command}.v0.0.42.json").read_text())[key]
    found: dict[str, Any] = next(entry for entry in entries if entry["job_id"] == id)
    return found


def nodes_json(**changes: Mapping[str, Any]) -> str:
    """``scontrol show node --json`` with two idle nodes, and changes by name."""
    found = json.loads((DATA / "24.11.5-scontrol-node.v0.0.42.json").read_text())
    for node in found["nodes"]:
        node.update({"state": ["IDLE"], "cpus": 2}, **changes.get(node["name"], {}))
    return json.dumps(found)


def fake_slurm(
    jobs: Sequence[FakeJob] = (),
    *,
    first: Rules = (),
    compute: Rules = (),
    nodes: Answers = "",
    config: ClusterConfig | None = None,
) -> Slurm:
    """Slurm on ``configs/local.yaml``; ``first`` are the controller's answers before all others."""
    rules: list[tuple[Matcher, Answers]] = [*first, ("mkdir -p", ""), ("scontrol show node", nodes or nodes_json())]
    rules.append(("scontrol show partition", PARTITIONS))
    for name in {job.name for job in jobs}:
        same = [job for job in jobs if job.name == name]
        ids = [f"{job.array[0] if job.array else job.id}\n" for job in same if not job.array or job.array[1] == 0]
        rules.append((re.compile(rf"^sbatch .*--job-name={name} "), ids))
    for job in jobs:
        rules.append((("scontrol", "show", "job", str(job.id)), _looks(job)))
        rules.append((f"cat -- {FOLDER}/{job.name}-{job.number}.out", job.stdout))
        rules.append((f"cat -- {FOLDER}/{job.name}-{job.number}.err", "said on standard error\n"))
    listed = "".join(f"{job.id}|{job.array[0] if job.array else job.id}|{job.state}|None\n" for job in jobs)
    rules += [
        ("squeue", listed),
        ("scontrol show job", json.dumps({"jobs": [job.raw(job.state) for job in jobs]})),
        ("sacct --json", lambda argv: _accounting(jobs, argv)),
        *((quiet, "") for quiet in ("scontrol release", "scancel", "touch", "rm -f")),
        ("date +%s.%N", "1795449000.5\n"),
    ]
    return Slurm(fake_cluster({"controller": rules, "*": list(compute)}, config=config), run="r1")


def _accounting(jobs: Sequence[FakeJob], argv: tuple[str, ...]) -> str:
    asked = argv[-1].removeprefix("--jobs=").split(",")
    return json.dumps({"jobs": [job.accounted() for job in jobs if str(job.id) in asked]})


def _looks(job: FakeJob) -> list[Any]:
    states = job.seen or (job.state,)
    starts = job.start_seen or (None,) * len(states)
    return [json.dumps({"jobs": [job.raw(state, start)]}) for state, start in zip(states, starts, strict=True)]


def new_measure() -> Measurements:
    return Measurements(load_limits("local"), Evidence())


def trace_rules(*per_look: tuple[str, str]) -> Rules:
    """What a node says to the search for a job's traces: (process, cgroup), look by look, last one kept."""
    pids = [Result((), 0, stdout="/proc/77/environ\n") if process else Result((), 1) for process, _ in per_look]
    seen = [process for process, _ in per_look if process] or [""]
    return [
        (re.compile("SLURM_JOB_ID="), pids),
        ("ps", [f"77 {process}\n" for process in seen]),
        ("find /sys/fs/cgroup", [f"{cgroup}\n" if cgroup else "" for _, cgroup in per_look]),
    ]
