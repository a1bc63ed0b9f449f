"""Jobs on one machine without Slurm: a process group with a time limit, and a record of how it ended."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import CommandError, DeadlineExceeded
from pytest_ai_how.launch.protocol import Ended, JobFailed, Limit, Started, Task
from pytest_ai_how.node import Node
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.shell import Result

#: The variable by which every process of a job is known, however it changes its session, group or parent.
MARK = "AI_HOW_JOB"
#: Seconds between two looks at a job, at most, and for which its last processes are looked for.
_POLL, _GONE_WITHIN = 0.2, 10.0
# Seconds that a job may take to end by itself when its time is over; KillWait of our slurm.conf is 2.
_KILL_WAIT = 2
# The supervisor: $1 is what the job's files are called, $2 its seconds, then the program. timeout(1) makes a process
# group, and signals it whole. What left the group (torchrun gives each worker a session of its own) is found by its
# mark. The record comes by rename, so that half of one is never read: status, and seconds since the Epoch.
_SUPERVISE = """job=$1 seconds=$2
shift 2
began=$(date +%s.%N)
printf '%s\\n' "$began" >"$job.began"
timeout --kill-after=@KILL_WAIT@ "$seconds" "$@" >"$job.out" 2>"$job.err" </dev/null
status=$?
for pid in $(grep -lzs "^AI_HOW_JOB=$AI_HOW_JOB\\$" /proc/[0-9]*/environ | cut -d/ -f3); do
    [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null
done
printf '%s %s %s\\n' "$status" "$began" "$(date +%s.%N)" >"$job.ended.new" && mv "$job.ended.new" "$job.ended"
""".replace("@KILL_WAIT@", str(_KILL_WAIT))
# Starts the supervisor ($1) away from whoever asks: a session of its own, and no stream that would keep one waiting.
_DETACH = 'setsid --fork sh -c "$@" </dev/null >/dev/null 2>&1'
# All processes of a job ($1), a number a line; those of other users can't be read, and aren't ours.
_PROCESSES = 'grep -lzs "^AI_HOW_JOB=$1\\$" /proc/[0-9]*/environ | cut -d/ -f3'
#: Kills them all.
KILL = f'for pid in $({_PROCESSES}); do kill -KILL "$pid" 2>/dev/null; done; true'


@dataclass(frozen=True, slots=True)
class Record:
    """What the supervisor of a job wrote: an exit status as timeout(1) has it, and two Unix times in seconds."""

    status: int
    began: float
    ended: float

    @classmethod
    def parse(cls, text: str) -> Record:
        """Read ``0 1795449000.25 1795449007.5``."""
        status, began, ended = text.split()
        return cls(int(status), float(began), float(ended))

    def state(self, seconds: float) -> str:
        """How it ended, in Slurm's words; ``seconds`` is the time that it had.

        timeout(1) gives 124 for a program that it had to end, 137 for one that it had to kill.
        """
        if not self.status:
            return "COMPLETED"
        return "TIMEOUT" if self.status in (124, 137) and self.ended - self.began >= seconds else "FAILED"


class DirectLauncher:
    """A :class:`~pytest_ai_how.launch.Launcher` on one machine, as ``user`` (default: whom the transport logs in as).

    Nothing is allocated: jobs that run at once share what the machine has. A job sees the first ``gpus`` GPUs. ``nv``
    gives containers the host's NVIDIA driver. ``folder`` is made, as the user, when it is not there. ``minute`` is how
    many seconds a minute of a task's limit has.
    """

    name = "direct"

    def __init__(
        self, node: Node, folder: str, user: str | None = None, *, nv: bool = False, minute: float = 60.0
    ) -> None:
        self.node, self.user, self._folder, self._nv, self._minute = node, user, folder, nv, minute

    @cached_property
    def folder(self) -> str:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        self.query("mkdir", "-p", "--", self._folder)
        return self._folder

    def query(self, *argv: str, check: bool = True, timeout: float = 30.0, input: str | bytes = "") -> Result:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return self.node.run(*argv, check=check, timeout=timeout, input=input, user=self.user)

    def limit(self, minutes: int, partition: str = "") -> Limit:  # noqa: ARG002  the Launcher protocol's signature
        """See :class:`~pytest_ai_how.launch.Launcher`: whatever is wanted."""
        return Limit(minutes, minutes)

    def start(self, task: Task) -> Started:
        """See :class:`~pytest_ai_how.launch.Launcher`. Raises :class:`JobFailed` for what wants several machines."""
        if (task.nodes, task.per_node) != (1, 1):
            raise JobFailed(
                self.node.name,
                f"job {task.name} wants {task.nodes} × {task.per_node} processes, and there is no Slurm here",
                expected="one process on one machine",
                cure="let torchrun start the others (--nproc-per-node)",
            )
        id = uuid.uuid4().hex[:12]
        files = f"{task.folder}/{task.name}-{id}"
        words = (_SUPERVISE, "sh", files, f"{task.minutes * self._minute:g}", *self._argv(task))
        env = (f"--chdir={task.folder}", *self._environment(task, id))
        self.query("env", *env, "sh", "-c", _DETACH, "sh", *words)
        return Started(id, task, f"{files}.out", f"{files}.err", self.limit(task.minutes))

    def ended(self, job: Started, within: float) -> Ended:
        """See :class:`~pytest_ai_how.launch.Launcher`. A job whose supervisor is gone too is NODE_FAIL."""
        try:
            record = wait_for(
                lambda: self._record(job), within=within, what="ended", where=self.node.name, at_most=_POLL
            )
        except DeadlineExceeded as error:
            self.cancel(job)
            raise JobFailed(
                self.node.name, f"job {job.id} ({job.task.name}) has not ended after {within:g} s", expected="its end"
            ) from error
        return self._ended(record, job)

    def running(self, job: Started) -> tuple[str, ...]:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return (self.node.name,) if self._pids(job) else ()

    def over(self, job: Started) -> bool:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return self._record(job) is not None

    def cancel(self, job: Started) -> None:
        """See :class:`~pytest_ai_how.launch.Launcher`. Raises :class:`JobFailed` naming what SIGKILL does not end."""
        pids = self._pids(job)
        if not pids:
            return
        # Its supervisor goes, too, and can write no record.
        self.query("touch", "--", f"{_files(job)}.cancelled")

        def gone() -> bool:
            nonlocal pids
            self.query("sh", "-c", KILL, "sh", job.id)  # again each time: one may have forked meanwhile
            pids = self._pids(job)
            return not pids

        try:
            wait_for(gone, within=_GONE_WITHIN, what="gone", where=self.node.name, at_most=_POLL)
        except DeadlineExceeded as error:
            seen = f"job {job.id} ({job.task.name}) still has the processes {', '.join(pids)}"
            raise JobFailed(self.node.name, seen, expected="none after SIGKILL") from error

    def write(self, path: str, content: str | bytes) -> None:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        self.node.write(path, content, user=self.user)

    def read(self, path: str) -> str:
        """See :class:`~pytest_ai_how.launch.Launcher`."""
        return self.query("cat", "--", path).stdout

    def _argv(self, task: Task) -> tuple[str, ...]:
        if not task.image:
            return task.argv
        flags = ("nv",) if self._nv and task.gpus else ()
        return command("exec", task.image, *task.argv, binds=[task.folder, *task.binds], cwd=task.folder, flags=flags)

    def _environment(self, task: Task, id: str) -> tuple[str, ...]:
        seen = ",".join(map(str, range(task.gpus)))
        meet = {"AI_HOW_HEAD": "localhost", "AI_HOW_PORT": "0", "AI_HOW_NODES": "1", "AI_HOW_NODE": "0"}
        env = {MARK: id, "CUDA_VISIBLE_DEVICES": seen} | (meet if task.port else {}) | dict(task.env)
        return tuple(f"{name}={value}" for name, value in env.items())

    def _pids(self, job: Started) -> tuple[str, ...]:
        return tuple(self.query("sh", "-c", _PROCESSES, "sh", job.id, check=False).stdout.split())

    def _record(self, job: Started) -> Record | None:
        """The job's record, when it has one. That nothing of it is left without one is told as a record, too."""
        files = _files(job)
        alive = bool(self._pids(job))  # asked first: a job may end between the two questions
        told = self.query("cat", "--", f"{files}.ended", check=False)
        if told.ok:
            return Record.parse(told.stdout)
        return None if alive else Record(-1, *self._times(files))

    def _times(self, files: str) -> tuple[float, float]:
        """When a job without a record began, and now; now twice where it did not even begin."""
        try:
            now = float(self.query("date", "+%s.%N").stdout)
            began = self.query("cat", "--", f"{files}.began", check=False).stdout.strip()
        except CommandError as error:
            raise JobFailed(self.node.name, f"{files}: cannot be asked: {error.seen}") from error
        return float(began or now), now

    def _ended(self, record: Record, job: Started) -> Ended:
        # A shell has 128 and the signal as the status of what a signal ended.
        by_signal = 128 < record.status < 193
        state = record.state(job.task.minutes * self._minute)
        if record.status < 0:
            cancelled = self.query("test", "-e", f"{_files(job)}.cancelled", check=False).ok
            state = "CANCELLED" if cancelled else "NODE_FAIL"
        return Ended(
            id=job.id,
            name=job.task.name,
            state=state,
            status=0 if by_signal else max(record.status, 0),
            signal=record.status - 128 if by_signal else 0,
            nodes=(self.node.name,),
            submitted=record.began,
            started=record.began,
            ended=record.ended,
            elapsed=record.ended - record.began,
            stdout=job.stdout,
            stderr=job.stderr,
            limit=str(job.limit),
        )


def _files(job: Started) -> str:
    """What the job's files are called, but for their endings."""
    return job.stdout.removesuffix(".out")
