"""How commands and files reach one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from pytest_ai_how.shell import Result


@runtime_checkable
class Transport(Protocol):
    """A way to run commands on one machine and to move files to and from it."""

    def execute(
        self, argv: Sequence[str], *, timeout: float, input: str | bytes = "", user: str | None = None
    ) -> Result:
        """Run ``argv`` as ``user`` (default: the transport's own) and return its outcome, whatever its status.

        Raises :class:`~pytest_ai_how.errors.CommandTimeout` (the command was killed) or
        :class:`~pytest_ai_how.errors.TransportError` (the machine was not reached). ``argv`` is never
        interpreted by a shell.
        """

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write ``content`` to the absolute ``path`` on the machine, by rename, with ``mode``."""

    def get(self, path: str) -> bytes:
        """Return the content of the absolute ``path`` on the machine."""

    def close(self) -> None:
        """Drop kept connections; the next call connects again."""


def local_path(path: str) -> Path:
    """Turn an absolute path given as text into a :class:`~pathlib.Path`, refusing a relative one."""
    found = Path(path)
    if not found.is_absolute():
        raise ValueError(f"{path!r} is not absolute")
    return found
