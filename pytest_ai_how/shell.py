"""What a command was and what came of it, and the one place that quotes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one command on one machine.

    ``argv`` is what was run, ``seconds`` the wall time seen from the caller, ``node`` the machine's name
    (``localhost`` for the machine that pytest runs on). A command ended by a signal has the negative signal
    number as ``returncode``, as in :mod:`subprocess`.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    node: str = "localhost"

    @property
    def ok(self) -> bool:
        """Whether the command exited with status 0."""
        return self.returncode == 0

    @property
    def command(self) -> str:
        """The command as a person would type it."""
        return quote(self.argv)

    def describe(self, lines: int = 20) -> str:
        """The command, its status and the end of its output: what a failure shows and a report attaches."""
        parts = [f"{self.node}$ {self.command}", f"exit status {self.returncode} after {self.seconds:.2f} s"]
        for label, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            if text.strip():
                parts += [f"--- {label}", *text.rstrip().splitlines()[-lines:]]
        return "\n".join(parts)


def quote(argv: Iterable[str]) -> str:
    """Join an argument vector into a line that a POSIX shell splits into the same vector."""
    return shlex.join(argv)
