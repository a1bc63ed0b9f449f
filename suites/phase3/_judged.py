"""What a tool of the storage refuses is the storage's failure, not the harness's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_ai_how.errors import CommandError, DeadlineExceeded


@contextmanager
def judged() -> Iterator[None]:
    """Let a check fail, and not break, when a tool answers with an error or a condition does not come in time."""
    try:
        yield
    except (CommandError, DeadlineExceeded) as error:
        raise AssertionError(str(error)) from error
