"""Jobs by Slurm: one batch job with one step, whose processes run in containers where an image is named."""

from __future__ import annotations

from pytest_ai_how.errors import AiHowError, CommandError, CommandTimeout, DeadlineExceeded
from pytest_ai_how.launch.protocol import Ended, JobFailed, Limit, Started, Task
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.services.slurm import JobOptions, JobSpec, SacctRecord, Slurm
from pytest_ai_how.services.slurm.options import arguments
from pytest_ai_how.shell import Result, quote

#: Ports of MpiParams that a step gets: torchrun listens on the first, what it starts may want one of its own.
_PORTS = 2
# What each process of a step does before it becomes the program: Slurm's words for who is where, in ours.
# SLURM_STEP_RESV_PORTS is ``12000-12001`` or ``12000,12001`` (24.11.5).
_MEET = """AI_HOW_HEAD=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n 1)
AI_HOW_PORT=${SLURM_STEP_RESV_PORTS%%[-,]*}
AI_HOW_NODES=$SLURM_STEP_NUM_NODES AI_HOW_NODE=$SLURM_NODEID
export AI_HOW_HEAD AI_HOW_PORT AI_HOW_NODES AI_HOW_NODE
exec "$@"
"""


class SlurmLauncher:
    """A :class:`~pytest_ai_how.launch.Launcher` over Slurm; ``nv`` gives containers the host's NVIDIA driver."""

    name = "slurm"

    def __init__(self, slurm: Slurm, *, nv: bool = False) -> None:
        self.slurm, self._nv = slurm, nv

    @property
    def folder(self) -> str:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return self.slurm.folder

    def query(self, *argv: str, check: bool = True, timeout: float = 30.0, input: str | bytes = "") -> Result:
        """See :class:`~pytest_ai_how.launch.Launcher`: on the controller."""
        node = self.slurm.cluster.controller
        return node.run(*argv, check=check, timeout=timeout, input=input, user=self.slurm.user)

    def limit(self, minutes: int, partition: str = "") -> Limit:
        """See :class:`~pytest_ai_how.launch.Launcher`: no more than the partition's; who asks for more never starts."""
        found = self.slurm.partitions().get(partition) if partition else None
        most = (found and found.max_minutes) or minutes
        return Limit(min(minutes, most), minutes, f"partition {partition} gives no more (MaxTime)")

    def start(self, task: Task) -> Started:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        pattern = f"{task.folder}/{task.name}-%j"
        files = JobOptions(chdir=task.folder, output=f"{pattern}.out", error=f"{pattern}.err")
        limit = self.limit(task.minutes, task.partition)
        wanted = options(task) | files | JobOptions(time=limit.minutes)
        try:
            id = self.slurm.submit(JobSpec(self.script(task), **wanted))
        except CommandError as error:
            said = error.result.stderr.strip() or error.result.stdout.strip()
            raise JobFailed(
                error.result.node,
                f"sbatch refused job {task.name}: {said}",
                expected="a job id",
                cure="compare what it asks for with `scontrol show node` and `scontrol show partition`",
            ) from error
        stem = pattern.replace("%j", str(id))
        return Started(str(id), task, f"{stem}.out", f"{stem}.err", limit)

    def script(self, task: Task) -> str:
        """The text of the batch job."""
        argv = task.argv
        if task.image:
            flags = ("nv",) if self._nv and task.gpus else ()
            argv = command("exec", task.image, *argv, binds=[task.folder, *task.binds], cwd=task.folder, flags=flags)
        step = JobOptions(
            nodes=task.nodes, ntasks=task.nodes * task.per_node, cpus=task.cpus, kill_on_bad_exit=True, mpi="none"
        )
        if task.port:
            step["resv_ports"] = _PORTS
            argv = ("sh", "-c", _MEET, "sh", *argv)
        settings = "".join(f"export {quote([f'{name}={value}'])}\n" for name, value in task.env.items())
        return f"#!/bin/sh\n{settings}exec srun {quote([*arguments(step), *argv])}\n"

    def ended(self, job: Started, within: float) -> Ended:
        """See :class:`~pytest_ai_how.launch.Launcher`: by the accounting's record."""
        try:
            record = self.slurm.wait(int(job.id), within)
        except DeadlineExceeded as error:
            self.cancel(job)
            raise JobFailed(
                error.where, f"{job.task.name}: {error.seen}", expected=error.expected, cure=error.cure
            ) from error
        return _ended(record, job)

    def running(self, job: Started) -> tuple[str, ...]:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        record = self.slurm.job(int(job.id))
        return record.nodes if "RUNNING" in record.states else ()

    def over(self, job: Started) -> bool:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return self.slurm.job(int(job.id)).final

    def cancel(self, job: Started) -> None:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        try:
            self.slurm.cancel(int(job.id))
        except (CommandError, CommandTimeout) as error:
            raise AiHowError(
                self.slurm.cluster.controller.name,
                f"job {job.id} ({job.task.name}) could not be cancelled: {error.seen}",
                cure=f"scancel {job.id}",
            ) from error

    def write(self, path: str, content: str | bytes) -> None:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        self.slurm.write(path, content)

    def read(self, path: str) -> str:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return self.slurm.read(path)


def options(task: Task) -> JobOptions:
    """What a job asks Slurm for."""
    wanted = JobOptions(
        name=task.name,
        nodes=task.nodes,
        ntasks=task.nodes * task.per_node,
        ntasks_per_node=task.per_node,
        cpus=task.cpus,
        time=task.minutes,
        requeue=False,
    )
    if task.memory:
        wanted["mem"] = task.memory
    if task.gpus:
        wanted["gres"] = f"gpu:{task.gpus}"
    if task.on:
        wanted["nodelist"] = ",".join(task.on)
    if task.partition:
        wanted["partition"] = task.partition
    return wanted


def _state(record: SacctRecord) -> str:
    """The job's state; OUT_OF_MEMORY where its step was, of which the job only has that it failed (24.11.5)."""
    starved = any("OUT_OF_MEMORY" in step.state for step in record.steps)
    return "OUT_OF_MEMORY" if starved and record.state == "FAILED" else record.state


def _ended(record: SacctRecord, job: Started) -> Ended:
    return Ended(
        id=job.id,
        name=job.task.name,
        state=_state(record),
        status=record.exit.status,
        signal=record.exit.signal,
        nodes=record.nodes,
        submitted=float(record.submit or 0),
        started=float(record.start or 0),
        ended=float(record.end or 0),
        elapsed=float(record.elapsed),
        stdout=job.stdout,
        stderr=job.stderr,
        tres=dict(record.tres),
        limit=str(job.limit),
    )
