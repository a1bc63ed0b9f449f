"""What all transports agree on about a command: which ones are possible, and how much they may say."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_ai_how.errors import CommandTimeout, OutputLimitExceeded
from pytest_ai_how.shell import Result

#: Bytes that one command may write to both streams together. Checks read kilobytes; what says more has run away.
OUTPUT_LIMIT = 64 * 1024 * 1024
#: Seconds that the streams may stay silent and open after the command itself has ended. A background process that
#: inherited them would otherwise hold its caller until the timeout.
GRACE = 0.5
# What useradd(8) of Debian accepts by default; needs no quoting.
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def checked(argv: Sequence[str], user: str | None = None) -> tuple[str, ...]:
    """Return ``argv`` as a tuple. Raises :class:`ValueError` for what no machine could run."""
    if isinstance(argv, str) or not argv or str(argv[0])[:1] in ("", "-"):
        raise ValueError(f"{argv!r}: a command is a list of words that starts with a program")
    for word in argv:
        if not isinstance(word, str):
            raise ValueError(f"{argv!r}: {word!r} is not text; convert it with str()")
        if "\0" in word:
            raise ValueError(f"{argv!r}: {word!r} holds a NUL, which no program can be given")
    if user is not None and not _USER.fullmatch(user):
        raise ValueError(f"{user!r} is not a user name")
    return tuple(argv)


def encoded(text: str | bytes) -> bytes:
    """Return a command's input as bytes, text as UTF-8."""
    return text.encode() if isinstance(text, str) else text


@dataclass
class Output:
    """What a running command has said so far."""

    node: str
    argv: tuple[str, ...]
    limit: int = OUTPUT_LIMIT
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    started: float = field(default_factory=time.monotonic)

    def add(self, stream: bytearray, chunk: bytes) -> None:
        """Append to one of the streams. Raises :class:`OutputLimitExceeded`: the caller then kills the command."""
        stream += chunk
        if len(self.stdout) + len(self.stderr) > self.limit:
            raise OutputLimitExceeded(self.result(-9), self.limit)

    def result(self, returncode: int) -> Result:
        """The outcome; bytes that are not UTF-8 become U+FFFD."""
        return Result(
            argv=self.argv,
            returncode=returncode,
            stdout=self.stdout.decode(errors="replace"),
            stderr=self.stderr.decode(errors="replace"),
            seconds=time.monotonic() - self.started,
            node=self.node,
        )

    def timeout(self, seconds: float) -> CommandTimeout:
        """The error of a command that was killed after ``seconds``, with what it had said by then."""
        return CommandTimeout(self.result(-9), seconds)
