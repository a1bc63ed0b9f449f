"""What all transports agree on: which commands are possible, how much they may say, and how one writes a file."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_ai_how.errors import CommandTimeout, OutputLimitExceeded
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.protocol import local_path

#: Bytes that one command may write to both streams together. Checks read kilobytes; what says more has run away.
OUTPUT_LIMIT = 64 * 1024 * 1024
#: Seconds that the streams may stay silent and open after the command itself has ended. A background process that
#: inherited them would otherwise hold its caller until the timeout.
GRACE = 0.5
#: Writes its input as a file: $1 the new file, $2 the path, $3 the mode, $4 the size. By rename and with the size, as a
#: connection that breaks off must not leave half a file; it says nothing of what it reads, which may be any length.
WRITE = """
umask 077
cat >"$1" && [ "$(stat -c %s -- "$1")" = "$4" ] && chmod "$3" "$1" && mv -fT -- "$1" "$2" && exit 0
rm -f -- "$1"
exit 1
"""
# Seconds for a file's transfer besides one second for each MiB.
_FILE_WITHIN = 30.0
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


def writing(path: str, size: int, mode: int) -> tuple[str, ...]:
    """The command that writes its input, ``size`` bytes, as the file of the absolute ``path``, whole or not at all."""
    target = local_path(path)
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(6)}")
    return ("sh", "-c", WRITE, "sh", str(temporary), str(target), f"{mode:o}", str(size))


def file_within(size: int) -> float:
    """Seconds in which a file of ``size`` bytes must have got to a machine, or from it."""
    return _FILE_WITHIN + size / 2**20


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
