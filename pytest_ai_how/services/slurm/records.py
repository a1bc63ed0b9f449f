"""What Slurm knows of nodes, partitions and jobs, as small frozen records.

Read from ``scontrol show … --json`` and ``sacct --json`` of Slurm 24.11.5 (samples of data_parser v0.0.40, v0.0.41
and v0.0.42 in ``tests/data/slurm``). Times are Unix seconds (Slurm keeps no finer ones), memory is MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_ai_how.services.slurm.values import ExitCode, exit_code, gres_count, hosts, number, states, tres, when

#: States that a job does not leave (JOB STATE CODES of squeue(1)).
FINAL = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "OUT_OF_MEMORY",
        "NODE_FAIL",
        "BOOT_FAIL",
        "DEADLINE",
        "PREEMPTED",
    }
)
#: Why a pending job will never start (Slurm 24.11, job reason codes): no waiting mends it, another request does.
NEVER = frozenset(
    {"PartitionTimeLimit", "BadConstraints", "AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"}
)
#: Base states in which a node takes or runs jobs, and flags beside them that do no harm (NODE STATE CODES of sinfo(1)).
USABLE = frozenset({"IDLE", "MIXED", "ALLOCATED"})
HARMLESS = frozenset({"COMPLETING", "PLANNED", "CLOUD", "DYNAMIC_NORM", "DYNAMIC_FUTURE"})


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as slurmctld sees it. ``states`` holds the base state first, then flags such as ``DRAIN``.

    ``cores`` are those of a socket, ``threads`` those of a core. ``memory`` is RealMemory, and ``specialized`` (MiB)
    what MemSpecLimit keeps of it from jobs.
    """

    name: str
    states: tuple[str, ...]
    reason: str
    cpus: int
    memory: int
    gpus: int
    gpus_used: int
    cpus_used: int
    partitions: tuple[str, ...]
    boot_time: int | None
    slurmd_start: int | None
    version: str
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    specialized: int = 0

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> NodeRecord:
        """Read one entry of ``nodes``."""
        return cls(
            name=str(raw["name"]),
            states=states(raw.get("state")),
            reason=str(raw.get("reason") or ""),
            cpus=number(raw.get("cpus")) or 0,
            memory=number(raw.get("real_memory")) or 0,
            gpus=gres_count(raw.get("gres")),
            gpus_used=gres_count(raw.get("gres_used")),
            cpus_used=number(raw.get("alloc_cpus")) or 0,
            partitions=tuple(raw.get("partitions") or ()),
            boot_time=when(raw.get("boot_time")),
            slurmd_start=when(raw.get("slurmd_start_time")),
            version=str(raw.get("version") or ""),
            sockets=number(raw.get("sockets")) or 0,
            cores=number(raw.get("cores")) or 0,
            threads=number(raw.get("threads")) or 0,
            specialized=number(raw.get("specialized_memory")) or 0,
        )

    @property
    def for_jobs(self) -> int:
        """The memory that jobs may be given, MiB."""
        return self.memory - self.specialized

    @property
    def state(self) -> str:
        """The state as ``sinfo`` would put it: ``IDLE`` or ``DOWN+NOT_RESPONDING``."""
        return "+".join(self.states) or "UNKNOWN"

    @property
    def usable(self) -> bool:
        """Whether it takes or runs jobs, without any flag that says otherwise."""
        return bool(USABLE & set(self.states)) and set(self.states) <= USABLE | HARMLESS


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    """A partition; ``max_minutes`` is None when unlimited."""

    name: str
    state: str
    nodes: tuple[str, ...]
    max_minutes: int | None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> PartitionRecord:
        """Read one entry of ``partitions``."""
        return cls(
            name=str(raw["name"]),
            state="+".join(states((raw.get("partition") or {}).get("state"))),
            nodes=hosts((raw.get("nodes") or {}).get("configured")),
            max_minutes=number((raw.get("maximums") or {}).get("time")),
        )


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as slurmctld sees it, until ``MinJobAge`` after its end. ``array`` is (job id, task id), of array tasks."""

    id: int
    name: str
    states: tuple[str, ...]
    reason: str
    nodes: tuple[str, ...]
    partition: str
    user: str
    exit: ExitCode
    submit: int | None
    start: int | None
    end: int | None
    stdout: str
    stderr: str
    workdir: str
    restarts: int
    array: tuple[int, int] | None = None
    gres: tuple[str, ...] = ()
    tres: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> JobRecord:
        """Read one entry of ``jobs`` of scontrol or squeue."""
        task = number(raw.get("array_task_id"))
        return cls(
            id=int(raw["job_id"]),
            name=str(raw.get("name") or ""),
            states=states(raw.get("job_state")),
            reason=str(raw.get("state_reason") or ""),
            nodes=hosts(raw.get("nodes")),
            partition=str(raw.get("partition") or ""),
            user=str(raw.get("user_name") or ""),
            exit=exit_code(raw.get("exit_code")),
            submit=when(raw.get("submit_time")),
            start=when(raw.get("start_time")),
            end=when(raw.get("end_time")),
            stdout=str(raw.get("standard_output") or ""),
            stderr=str(raw.get("standard_error") or ""),
            workdir=str(raw.get("current_working_directory") or ""),
            restarts=number(raw.get("restart_cnt")) or 0,
            array=None if task is None else (number(raw.get("array_job_id")) or 0, task),
            gres=tuple(str(entry) for entry in raw.get("gres_detail") or ()),
            tres=tres(raw.get("tres_alloc_str")),
        )

    @property
    def state(self) -> str:
        """The state as ``squeue`` would put it."""
        return "+".join(self.states) or "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether it has ended and its nodes were cleaned: a final state without ``COMPLETING``."""
        return bool(FINAL & set(self.states)) and "COMPLETING" not in self.states


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step of a job in the accounting: ``12.batch``, ``12.0``."""

    id: str
    state: str
    exit: ExitCode
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SacctRecord:
    """A job in the accounting. ``elapsed`` is in seconds; ``tres`` is what was allocated."""

    id: int
    name: str
    state: str
    exit: ExitCode
    user: str
    account: str
    cluster: str
    partition: str
    nodes: tuple[str, ...]
    submit: int | None
    start: int | None
    end: int | None
    elapsed: int
    tres: Mapping[str, int]
    steps: tuple[StepRecord, ...] = ()
    array: tuple[int, int] | None = None

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> SacctRecord:
        """Read one entry of ``jobs`` of sacct."""
        time, who, array = raw.get("time") or {}, raw.get("association") or {}, raw.get("array") or {}
        task = number(array.get("task_id"))
        start = when(time.get("start"))
        return cls(
            id=int(raw["job_id"]),
            name=str(raw.get("name") or ""),
            state="+".join(states((raw.get("state") or {}).get("current"))),
            exit=exit_code(raw.get("exit_code")),
            user=str(raw.get("user") or who.get("user") or ""),
            account=str(raw.get("account") or who.get("account") or ""),
            cluster=str(raw.get("cluster") or who.get("cluster") or ""),
            partition=str(raw.get("partition") or ""),
            nodes=hosts(raw.get("nodes")),
            submit=when(time.get("submission")),
            start=start,
            end=when(time.get("end")),
            elapsed=number(time.get("elapsed")) or 0,
            tres=tres((raw.get("tres") or {}).get("allocated")),
            steps=tuple(_step(step) for step in raw.get("steps") or ()),
            array=None if task is None else (number(array.get("job_id")) or 0, task),
        )

    @classmethod
    def of_job(cls, job: JobRecord, cluster: str) -> SacctRecord:
        """The same facts from slurmctld, for a cluster that keeps no accounting."""
        elapsed = (job.end or 0) - (job.start or 0) if job.start else 0
        return cls(
            id=job.id,
            name=job.name,
            state="+".join(word for word in job.states if word in FINAL) or job.state,
            exit=job.exit,
            user=job.user,
            account="",
            cluster=cluster,
            partition=job.partition,
            nodes=job.nodes,
            submit=job.submit,
            start=job.start,
            end=job.end,
            elapsed=max(0, elapsed),
            tres=job.tres,
            array=job.array,
        )

    @property
    def exit_code(self) -> int:
        """The exit status of the job's script; 0 also when a signal ended it (see ``exit.signal``)."""
        return self.exit.status

    @property
    def final(self) -> bool:
        """Whether the job has ended and the accounting knows when."""
        return self.state in FINAL and self.end is not None


def _step(raw: Mapping[str, Any]) -> StepRecord:
    return StepRecord(
        id=str((raw.get("step") or {}).get("id", "")),
        state="+".join(states(raw.get("state"))),
        exit=exit_code(raw.get("exit_code")),
        nodes=tuple((raw.get("nodes") or {}).get("list") or ()),
    )
