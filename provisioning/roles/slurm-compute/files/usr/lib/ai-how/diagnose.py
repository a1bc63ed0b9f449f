#!/usr/bin/python3 -IS
"""Say why a job ended: one JSON object with the cause, what it means and what to do.

The epilog runs it without arguments, and slurmd tells it the job in the environment (PROLOG AND EPILOG SCRIPTS of
slurm.conf(5), 24.11.5). By hand it is given the job's id and the exit code that sacct shows: ``diagnose.py 12 0:9``.
Exit status 2 and a line on standard error say that it was told no job, or no exit code.

A job that was ended from outside has the exit code 0:0, whatever it did. That it was, and why, its steps wrote into
slurmd's log before the epilog runs: asking slurmctld from an epilog is what slurm.conf(5) advises against.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

#: SlurmdLogFile of our slurm.conf.
LOG = Path("/var/log/slurm/slurmd.log")
#: Bytes at the log's end that are looked through: what all steps of some thousand jobs write, and quickly read.
TAIL = 2**20
#: What slurmstepd 24.11.5 writes of a job on its first node, and of a step of it, that is ended from outside, one line:
#: ``[2026-11-27T00:13:40.027] [4.batch] error:
#: *** JOB 4 ON node02 CANCELLED AT 2026-11-27T00:13:40 DUE TO TIME LIMIT ***``
NOTICE = re.compile(
    r"^\[(?P<at>[-\dT:.]+)\] \[(?P<job>\d+)\.\S+\] error: \*\*\* (?P<whole>JOB|STEP) \S+ ON \S+ "
    r"CANCELLED AT \S+(?: DUE TO (?P<why>[A-Z ]+))?",
    re.MULTILINE,
)
#: Seconds by which the clocks of this machine and of slurmctld's may differ.
SKEW = 2.0

#: What Slurm puts in the place of a signal when the kernel killed a process for its memory: 0:125 (SIG_OOM, slurm.h).
OUT_OF_MEMORY = 125
#: A shell whose last command was ended by signal N ends with 128 + N itself.
BY_SIGNAL = 128


class Cause(NamedTuple):
    """A cause by its name, in words, and what to do about it; ``{job}`` is the job's id, ``{status}`` its status."""

    name: str
    summary: str
    advice: tuple[str, ...]


NONE = Cause(
    "none",
    "no failure: the script ended with status 0, and this node was not told that the job was ended from outside",
    (
        "Nothing is to be done, unless `sacct -X -j {job} -o State` says otherwise: of a job on several nodes, or one "
        "without a script, only the first node may have been told; read the diagnosis there.",
    ),
)
CANCELLED = Cause(
    "cancelled",
    "somebody cancelled the job",
    (
        "`sacct -X -j {job} -o State` says CANCELLED by which user's id: by your own, by root's, or by Slurm's.",
        "Ask them why if it was not you; Slurm itself cancels jobs that depend on one that failed.",
    ),
)
#: By what slurmstepd says the job was ended due to.
BY_NOTICE = {
    "TIME LIMIT": Cause(
        "time-limit",
        "the job had used up the time that it asked for",
        (
            "Compare `sacct -X -j {job} -o Timelimit,Elapsed`, and ask for more by --time, up to the partition's.",
            "Have the program save its state, when --signal warns it or every now and then, and go on from there.",
        ),
    ),
    "PREEMPTION": Cause(
        "preempted",
        "a job of higher priority took the nodes",
        ("Have the program save its state, and submit with --requeue or to a partition that is not preempted.",),
    ),
    "NODE FAILURE": Cause(
        "node-failure",
        "a node of the job failed",
        ("`sinfo -R` and slurmctld's log say which and why; submit it again, with --requeue to have Slurm do that.",),
    ),
    "JOB REQUEUE": Cause(
        "requeued",
        "the job was put back into the queue",
        ("Nothing is to be done: it starts again from the beginning; `squeue -j {job}` says when.",),
    ),
}
MEMORY = Cause(
    "out-of-memory",
    "the kernel killed a process of the job because the job had used up the memory that it asked for",
    (
        "Compare `sacct -j {job} -o MaxRSS,ReqMem`, and ask for more by --mem or --mem-per-cpu.",
        "Have the program use less: smaller batches, fewer workers, data read in pieces.",
    ),
)
STATUS = Cause(
    "exit-status",
    "the script ended with status {status}, which is its own word for a failure",
    ("Read the end of the job's output and error files; what {status} means, the program's documentation says.",),
)
BY_STATUS = {
    126: Cause(
        "not-executable",
        "a command was found and could not be executed",
        ("Look for `Permission denied` or `Exec format error` in the job's error file; do: chmod +x, or rebuild it.",),
    ),
    127: Cause(
        "not-found",
        "a command or one of its libraries was not found",
        ("Look for `not found` in the job's error file; load the module, or give the whole path.",),
    ),
}
BY_NUMBER = {
    signal.SIGKILL: Cause(
        "killed",
        "a process was killed by SIGKILL, which no program can catch; Slurm saw it use no more memory than it had",
        (
            "Was it cancelled, or killed by hand? `sacct -X -j {job} -o State` says CANCELLED by whom.",
            "Look for `Out of memory` in the node's kernel log: there the whole node was short of it.",
        ),
    ),
    signal.SIGSEGV: Cause(
        "segmentation-fault",
        "a process touched memory that is not its own (SIGSEGV): a fault in the program or in a library of it",
        (
            "Run it again with `ulimit -c unlimited` and look into the core file with a debugger.",
            "In Python, `python3 -X faulthandler` shows the line; then compare the versions of compiled modules.",
        ),
    ),
    signal.SIGABRT: Cause(
        "aborted",
        "a process gave up by itself (SIGABRT): an assertion failed, or its memory was found corrupt",
        ("Read the last lines of the job's error file, which say what was found.",),
    ),
    signal.SIGBUS: Cause(
        "bus-error",
        "a process touched memory that has nothing behind it (SIGBUS)",
        ("Is /dev/shm or a file that the program maps full, or was it cut short? `df /dev/shm`, `ls -l`.",),
    ),
    signal.SIGTERM: Cause(
        "terminated",
        "a process was asked to end (SIGTERM)",
        ("`sacct -X -j {job} -o State` says whether it was cancelled, preempted or out of time.",),
    ),
}
SIGNAL = Cause(
    "signal", "a process was ended by a signal", ("signal(7) says what sends it; read the job's error file.",)
)


class Ended(NamedTuple):
    """How a job ended: the exit status of its script, and the signal that ended it (0: none)."""

    status: int
    signal: int

    @property
    def number(self) -> int:
        """The signal that ended the script, or by its status the last command in it; 0: none."""
        if self.signal or self.status <= BY_SIGNAL:
            return self.signal
        return self.status - BY_SIGNAL if self.status - BY_SIGNAL < signal.NSIG else 0

    @property
    def name(self) -> str:
        """The name of that signal; real-time ones have none."""
        return next((one.name for one in signal.Signals if one == self.number), "")

    @property
    def cause(self) -> Cause:
        """What it means."""
        if self.signal == OUT_OF_MEMORY:
            return MEMORY
        if self.number:
            return next((cause for number, cause in BY_NUMBER.items() if number == self.number), SIGNAL)
        return BY_STATUS.get(self.status, STATUS) if self.status else NONE


def ended(code: str) -> Ended:
    """Read ``status:signal``, as sacct and slurmd write it. Raises ValueError."""
    status, colon, number = code.partition(":")
    if not (status.isdecimal() and colon and number.isdecimal()):
        raise ValueError(f"{code!r} is no exit code; expected status:signal, such as 0:9")
    found = Ended(int(status), int(number))
    if found.signal not in {*range(signal.NSIG), OUT_OF_MEMORY}:
        raise ValueError(f"{code!r}: there is no signal {number}")
    return found


def notices(log: Path, job: int, start: float, end: float) -> Iterator[str]:
    """Why a job was ended from outside, as slurmd's log says, ``""`` where it gives no reason.

    A job that was requeued has notices of earlier starts, and a step may be cancelled long before its job ends.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:  # slurmd logs elsewhere: then the exit code is all that is known
        return
    for found in NOTICE.finditer(text):
        since = start if found["whole"] == "JOB" else end
        if int(found["job"]) == job and datetime.fromisoformat(found["at"]).timestamp() >= since - SKEW:
            yield (found["why"] or "").strip()


def from_outside(job: int, known: Mapping[str, str], log: Path) -> Cause | None:
    """Why the job was ended from outside, if it was and slurmd told the epilog when it ran."""
    start, end = known.get("SLURM_JOB_START_TIME", ""), known.get("SLURM_JOB_END_TIME", "")
    if not (start.isdecimal() and end.isdecimal()):
        return None
    why = next(notices(log, job, float(start), float(end)), None)
    return None if why is None else BY_NOTICE.get(why, CANCELLED)


def diagnosis(job: int, code: str, known: Mapping[str, str], log: Path = LOG) -> dict[str, object]:
    """What is printed; ``known`` is the environment of an epilog, or nothing. Raises ValueError for no exit code."""
    how = ended(code)
    cause = from_outside(job, known, log) or how.cause
    words = {"job": job, "status": how.status}
    return {
        "version": 1,
        "job": job,
        "user": known.get("SLURM_JOB_USER", ""),
        "node": known.get("SLURMD_NODENAME", ""),
        "exit": {"status": how.status, "signal": how.signal},
        "signal": how.name,
        "cause": cause.name,
        "summary": cause.summary.format(**words),
        "advice": [line.format(**words) for line in cause.advice],
    }


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Print the diagnosis of the job that the arguments name, or else the environment; returns the exit status."""
    known = {} if arguments else environment
    given = arguments or (known.get("SLURM_JOB_ID", ""), known.get("SLURM_JOB_EXIT_CODE2", ""))
    try:
        job, code = given
        found = diagnosis(int(job), code, known)
    except ValueError as error:
        print(f"diagnose.py: {error}; usage: diagnose.py JOB STATUS:SIGNAL", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
