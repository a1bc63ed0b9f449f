#!/usr/bin/python3 -IS
"""Say why a job ended: one JSON object with the cause, what it means and what to do.

The epilog runs it without arguments, and slurmd tells it the job in the environment (PROLOG AND EPILOG SCRIPTS of
slurm.conf(5), 24.11.5). By hand it is given the job's id and the exit code that sacct shows: ``diagnose.py 12 0:9``.
Exit status 2 and a line on standard error say that it was told no job, or no exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    "no failure: the script ended with status 0, or the job was ended from outside before it could fail",
    ("Nothing is to be done, unless `sacct -X -j {job} -o State` says CANCELLED or TIMEOUT: then ask for more time.",),
)
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


def diagnosis(job: int, code: str, known: Mapping[str, str]) -> dict[str, object]:
    """What is printed; ``known`` is the environment of an epilog, or nothing. Raises ValueError for no exit code."""
    how = ended(code)
    cause = how.cause
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
