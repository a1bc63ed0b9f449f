"""How long work says what it is doing: a live display on a terminal that can replace lines, plain lines elsewhere.

Plain lines carry the seconds since the start, so that a log shows where the time went::

    [  0.0 s] node image: reading the package lists
    [ 12.3 s] node image: installing 214 packages
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.status import Status


class Progress(Protocol):
    """Takes one line for each thing that begins. Safe to call from several threads."""

    def say(self, subject: str, text: str) -> None:
        """``subject`` (``node image``, ``node01``) has begun to do ``text``."""


class Silent:
    """Says nothing."""

    def say(self, subject: str, text: str) -> None:
        """Drop the line."""


class PlainLines:
    """One line to a stream for each thing that begins, with the seconds since the object was made."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()

    def say(self, subject: str, text: str) -> None:
        """Write the line at once, in one write, so that lines of several threads stay whole."""
        self._stream.write(f"[{time.monotonic() - self._start:5.1f} s] {subject}: {text}\n")
        self._stream.flush()


class LiveStatus:
    """The latest line of each subject beside a spinner; replaced in place, gone at the end."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._latest: dict[str, str] = {}

    def say(self, subject: str, text: str) -> None:
        """Show the line in place of the subject's last one."""
        from rich.text import Text

        self._latest[subject] = text
        self._status.update(Text("  ·  ".join(f"{name}: {what}" for name, what in list(self._latest.items()))))


@contextmanager
def progress_on(stream: TextIO | None = None) -> Iterator[Progress]:
    """Progress for ``stream`` (default: standard error): live if it is a terminal, plain lines if not.

    On a terminal that can't replace lines (``TERM=dumb``) rich would show nothing. It is imported for a terminal only.
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        yield PlainLines(stream)
        return
    from rich.console import Console

    console = Console(file=stream)
    if console.is_dumb_terminal:
        yield PlainLines(stream)
        return
    with console.status("") as status:
        yield LiveStatus(status)
