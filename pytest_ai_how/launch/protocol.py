"""What a job is, what is known of it while it runs and when it has ended, and what starts it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import TypeAdapter

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.shell import Result

#: A job's name is part of file names and of Slurm's options.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
#: Lines that Slurm or Apptainer adds to what a program says on its standard error (24.11.5, 1.4.5).
_NOT_ITS_OWN = ("srun: ", "slurmstepd: ", "slurmstepd-", "INFO: ", "INFO:")
#: Seconds beyond its time limit in which a job must have ended: Slurm looks at limits twice a minute.
_GRACE = 60.0
#: Lines of its standard error that are shown of a job that failed.
_LAST = 20
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # ECMA-48, SGR


@dataclass(frozen=True, slots=True)
class Task:
    """Work for a job: ``argv`` is started ``per_node`` times on each of ``nodes`` machines, in ``folder``.

    ``image`` is the path of a SIF file as the machines see it; without one, ``argv`` runs on the machine itself.
    ``binds`` are what a container sees of the machine besides ``folder`` (``source:target[:ro]``).
    ``cpus`` are those of each process, ``gpus`` and ``memory`` (MiB; 0: what is usual there) those of each machine.
    The job is ended after ``minutes``. ``env`` is added to the environment. ``folder`` must exist, be seen by all
    machines, and belong to the job user. ``on`` names the machines, where it matters, and ``partition`` theirs.

    With ``port``, the job has a port of its own on its first machine, and each process finds ``AI_HOW_HEAD`` (the first
    machine's name), ``AI_HOW_PORT``, ``AI_HOW_NODES`` (how many machines) and ``AI_HOW_NODE`` (which of them, from 0)
    in its environment. 0 as a port says that any will do.

    Raises :class:`ValueError` for what no launcher could start.
    """

    name: str
    argv: tuple[str, ...]
    folder: str
    image: str = ""
    nodes: int = 1
    per_node: int = 1
    cpus: int = 1
    gpus: int = 0
    memory: int = 0
    minutes: int = 5
    env: Mapping[str, str] = field(default_factory=dict)
    on: tuple[str, ...] = ()
    partition: str = ""
    port: bool = False
    binds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a job's name: lower-case letters, digits and -")
        if not self.argv:
            raise ValueError(f"job {self.name}: nothing to run")
        if not self.folder.startswith("/"):
            raise ValueError(f"job {self.name}: {self.folder!r} is not absolute")
        if min(self.nodes, self.per_node, self.cpus, self.minutes) < 1 or min(self.gpus, self.memory) < 0:
            raise ValueError(f"job {self.name}: asks for less than there can be")
        for name in self.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"job {self.name}: {name!r} is not the name of a variable")


@dataclass(frozen=True, slots=True)
class Limit:
    """After how many minutes a job is ended, of how many it ``wanted``; ``why`` it has fewer."""

    minutes: int
    wanted: int
    why: str = ""

    def __str__(self) -> str:
        cut = f" of the {self.wanted} wanted: {self.why}" if self.minutes < self.wanted else ""
        return f"{self.minutes} min{cut}"


@dataclass(frozen=True, slots=True)
class Started:
    """A job that was started: its identifier, and where its standard output and error go, as the machines see it."""

    id: str
    task: Task
    stdout: str
    stderr: str
    limit: Limit


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, by the word of whoever ran it.

    ``state`` is one of Slurm's: COMPLETED, FAILED, CANCELLED, TIMEOUT, OUT_OF_MEMORY, NODE_FAIL, … ``status`` is the
    exit status and ``signal`` the signal that ended it (0: none). Times are Unix seconds, ``elapsed`` seconds from
    ``started`` to ``ended``. ``tres`` is what was allocated, as the accounting has it (``{"cpu": 2, "mem": 512,
    "gres/gpu": 1}``, memory in MiB); empty where nobody allocates. ``limit`` is what it had of time, and why no more.
    """

    id: str
    name: str
    state: str
    status: int
    signal: int
    nodes: tuple[str, ...]
    submitted: float
    started: float
    ended: float
    elapsed: float
    stdout: str
    stderr: str
    tres: Mapping[str, int] = field(default_factory=dict)
    limit: str = ""

    @property
    def ok(self) -> bool:
        """Whether it did its work."""
        return self.state == "COMPLETED" and not self.status

    @property
    def node(self) -> str:
        """The first machine that it ran on."""
        return self.nodes[0] if self.nodes else "no node"

    @property
    def label(self) -> str:
        """How messages name it: ``node01: job 12 (train)``."""
        return f"{','.join(self.nodes) or 'no node'}: job {self.id} ({self.name})"

    def to_json(self) -> str:
        """As text, for other processes of the run."""
        return _ENDED.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Ended:
        """What :meth:`to_json` wrote."""
        return _ENDED.validate_json(text)


_ENDED = TypeAdapter(Ended)


class JobFailed(AiHowError):
    """A job did not end as it should: the cluster's failure, not the harness's."""


class Launcher(Protocol):
    """Starts jobs as the job user. Several threads may share one.

    Raises :class:`JobFailed` when a job is refused or does not end in time, and other kinds of
    :class:`~pytest_ai_how.errors.AiHowError` when nobody can be asked.
    """

    name: str

    @property
    def folder(self) -> str:
        """A folder of this run that all machines see, and the job user may write to."""

    def query(self, *argv: str, check: bool = True, timeout: float = 30.0, input: str | bytes = "") -> Result:
        """Run a short command as the job user where :attr:`folder` is seen; no job."""

    def limit(self, minutes: int, partition: str = "") -> Limit:
        """What a job gets that wants so many minutes, in a partition."""

    def start(self, task: Task) -> Started:
        """Start a job; it runs on when this returns."""

    def ended(self, job: Started, within: float) -> Ended:
        """Wait until it has ended. One that has not after ``within`` seconds is cancelled, and :class:`JobFailed`."""

    def running(self, job: Started) -> tuple[str, ...]:
        """The machines that it runs on now; none before it starts and after it ended."""

    def over(self, job: Started) -> bool:
        """Whether it has ended, however."""

    def cancel(self, job: Started) -> None:
        """End it with all its processes; one that has ended is no error."""

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file of any size as the job user where :attr:`folder` is seen; whole, or not at all.

        Raises :class:`~pytest_ai_how.errors.FileError`.
        """

    def read(self, path: str) -> str:
        """A text file that a job wrote. Raises :class:`~pytest_ai_how.errors.CommandError`."""


def run(launcher: Launcher, task: Task, within: float) -> Ended:
    """Start a job and wait for its end, in whatever state; it is cancelled when the wait is cut short."""
    job = launcher.start(task)
    try:
        return launcher.ended(job, within)
    except BaseException:
        launcher.cancel(job)
        raise


def done(launcher: Launcher, task: Task, within: float = 0.0) -> Ended:
    """Start a job, wait for its end, and return that. Raises :class:`JobFailed` unless it does its work.

    ``within`` are seconds (default: the task's time limit and a minute).
    """
    ended = run(launcher, task, within or task.minutes * 60 + _GRACE)
    completed(ended, launcher.read(ended.stderr))
    return ended


def completed(ended: Ended, stderr: str) -> None:
    """Raise :class:`JobFailed`, with what its program said last, unless a job did its work."""
    if ended.ok:
        return
    within = f" within {ended.limit}" if ended.limit and ended.state == "TIMEOUT" else ""
    how = f"signal {ended.signal}" if ended.signal else f"status {ended.status}"
    raise JobFailed(
        ended.node,
        f"job {ended.id} ({ended.name}) ended as {ended.state} with {how}: {why(stderr)}{_before(stderr)}",
        expected=f"COMPLETED with status 0{within}",
        cure=f"read {ended.stderr}",
    )


def _spoken(stderr: str) -> list[str]:
    """The lines that say something, without colours."""
    return [line.rstrip() for line in _COLOURS.sub("", stderr).splitlines() if line.strip()]


def _before(stderr: str) -> str:
    """The last lines of a program's standard error, when there are several: its very last may be beside the point."""
    lines = _spoken(stderr)[-_LAST:]
    return "\n  standard error:\n    " + "\n    ".join(lines) if lines[1:] else ""


def why(stderr: str) -> str:
    r"""The last line of a program's own on its standard error; Slurm's or Apptainer's where it came to none.

    >>> why("Traceback …\nValueError: no data\nsrun: error: node01: task 0: Exited with exit code 1\n")
    'ValueError: no data'
    """
    lines = _spoken(stderr)
    own = [line for line in lines if not line.startswith(_NOT_ITS_OWN)]
    fatal = next((line for line in lines if line.startswith("FATAL:")), "")
    # What Slurm says first tells more than what it does because of that.
    errors = [line for line in lines if "error:" in line][:1]
    return fatal or (own or errors or lines or ["nothing on standard error"])[-1].strip()
