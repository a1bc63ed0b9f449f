"""Every error that the library raises on purpose.

::

    AiHowError
    ├── ConfigError            the YAML is wrong: every mistake at once, as file:line
    ├── CatalogueError         a check, limit, metric or unit that the catalogue does not know
    ├── HostError              this machine lacks something; carries the command that cures it
    ├── ImageError             an image could not be built, or is not what its recipe says
    ├── TransportError         a machine could not be reached
    │   └── HostKeyError       it answered with another host key than the one pinned
    ├── CommandError           a command exited with a status that the caller did not expect
    ├── CommandTimeout         a command did not end in time (it was killed)
    ├── OutputLimitExceeded    a command said more than anybody can want to read (it was killed)
    ├── FactError              a machine does not tell what was to be read of it
    ├── FileError              a file on a machine could not be read or written
    ├── DeadlineExceeded       a condition did not become true in time
    ├── ProvisionError         a driver could not make or unmake a machine
    ├── LeaseError             the cluster's record on disk
    │   ├── ClusterInUse       another live run owns the cluster
    │   └── RecordError        the record or journal cannot be read
    ├── StepFailed             a bring-up step failed (raised where it ran)
    └── StepBlocked            a step failed earlier; its cause is repeated, nothing was tried

Messages put the machine or file first, then what was seen, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_ai_how.shell import Result


class AiHowError(Exception):
    """Base of all deliberate errors.

    ``where`` is a machine or ``file:line``; ``seen`` what was found there; ``expected`` and ``cure`` may be empty.
    """

    def __init__(self, where: str, seen: str, *, expected: str = "", cure: str = "") -> None:
        self.where, self.seen, self.expected, self.cure = where, seen, expected, cure
        super().__init__(where, seen, expected, cure)

    def __str__(self) -> str:
        text = f"{self.where}: {self.seen}"
        if self.expected:
            text += f"\n  expected: {self.expected}"
        if self.cure:
            text += f"\n  do: {self.cure}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments would be lost between xdist workers and the controller.
        return (_rebuild, (type(self), self.__dict__.copy(), self.args))


def _rebuild(kind: type[AiHowError], state: dict[str, object], args: tuple[object, ...]) -> AiHowError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file: ``file:line: key.path: what (hint)``; line 0 is the file as a whole."""

    file: str
    line: int
    path: str
    what: str
    hint: str = ""

    @property
    def where(self) -> str:
        """``file:line``, or ``file``."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        key = f" {self.path}:" if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.where}:{key} {self.what}{hint}"


class ConfigError(AiHowError):
    """All the mistakes of one configuration, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems[0].where, "\n".join(map(str, self.problems)))

    def __str__(self) -> str:
        return self.seen


class CatalogueError(AiHowError):
    """A check, metric or unit that is not declared."""


class HostError(AiHowError):
    """The host lacks something; ``cure`` is the command that provides it."""


class ImageError(AiHowError):
    """An image could not be built or does not verify."""


class TransportError(AiHowError):
    """A machine could not be reached."""


class HostKeyError(TransportError):
    """A machine answered with another host key than the one pinned when it was provisioned."""


class CommandError(AiHowError):
    """A command exited with an unexpected status; ``result`` holds its output."""

    def __init__(self, result: Result) -> None:
        self.result = result
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-3:]
        said = ": " + " | ".join(last) if last else ", no output"
        super().__init__(result.node, f"`{result.command}` exited with {result.returncode}{said}")


class CommandTimeout(AiHowError):
    """A command was killed because it did not end in time; ``result`` holds what it had said by then."""

    def __init__(self, result: Result, timeout: float) -> None:
        self.result, self.timeout = result, timeout
        super().__init__(result.node, f"`{result.command}` did not end within {timeout:g} s and was killed")


class OutputLimitExceeded(AiHowError):
    """A command was killed because it wrote more than ``limit`` bytes; ``result`` holds what it had said by then."""

    def __init__(self, result: Result, limit: int) -> None:
        self.result, self.limit = result, limit
        super().__init__(
            result.node,
            f"`{result.command}` wrote more than {limit / 2**20:g} MiB and was killed",
            cure="send its output to a file on the machine, and read the part that is needed",
        )


class FactError(AiHowError):
    """What was to be read of a machine can't be known: its command failed, or said what nobody understands."""


class FileError(AiHowError):
    """A file on a machine could not be read or written."""


class DeadlineExceeded(AiHowError):
    """A condition did not become true in time."""


class ProvisionError(AiHowError):
    """A driver could not make or unmake a machine, network or mount."""


class LeaseError(AiHowError):
    """Something is wrong with the cluster's record on disk."""


class ClusterInUse(LeaseError):
    """Another live run owns the cluster."""


class RecordError(LeaseError):
    """The record or the journal cannot be read."""


class StepFailed(AiHowError):
    """A bring-up step failed."""


class StepBlocked(AiHowError):
    """A bring-up step failed earlier in this run; it was not tried again."""
