"""What a check saw: attachments and steps, bounded in size and free of secrets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_ai_how.report.items import Attachment, Step
from pytest_ai_how.report.redact import Redactor
from pytest_ai_how.shell import Result

ATTACHMENT_BYTES = 256 * 1024
CHECK_BYTES = 8 * 1024 * 1024


class Evidence:
    """The evidence of one check.

    An attachment larger than ``attachment_bytes`` keeps its head and tail, and says so; past ``check_bytes`` in all,
    only the names and sizes of further attachments are kept. Secrets are replaced before anything is stored.
    """

    def __init__(
        self,
        redactor: Redactor | None = None,
        *,
        attachment_bytes: int = ATTACHMENT_BYTES,
        check_bytes: int = CHECK_BYTES,
    ) -> None:
        self._redactor = redactor or Redactor()
        self._attachment_bytes, self._left = attachment_bytes, check_bytes
        self._lock = threading.Lock()
        self._items: list[Attachment] = []
        self._root = _OpenStep("")
        self._open = [self._root]

    @property
    def items(self) -> tuple[Attachment, ...]:
        """All attachments, in the order they were made."""
        return tuple(self._items)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that have ended, in order, with the steps inside them."""
        return tuple(self._root.steps)

    @property
    def samples(self) -> int:
        """How many attachments have content; a check with none has no evidence."""
        return sum(1 for item in self._items if item.size)

    def attach(self, name: str, content: str | bytes, kind: str = "text/plain") -> Attachment:
        """Keep ``content`` (media type ``kind``) under ``name``; returns what was kept."""
        data = content.encode(errors="replace") if isinstance(content, str) else content
        data = self._redactor.data(data)
        name = self._redactor.text(name)
        with self._lock:  # checks attach from the threads that ask several nodes at once
            bound = min(self._attachment_bytes, self._left)
            cut = len(data) if len(data) > bound else None
            item = Attachment.of(name, shorten(data, bound), kind=kind, truncated_from=cut)
            self._left -= min(len(data), bound)
            self._open[-1].attachments.append(len(self._items))
            self._items.append(item)
        return item

    def result(self, result: Result, name: str = "") -> Attachment:
        """Keep a command: what was run, where, its status, its time and both outputs."""
        return self.attach(name or f"{result.node}: {result.command}"[:120], result.describe(lines=100_000))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Group what is attached inside under ``text``; a step that raises is marked as failed."""
        opened = _OpenStep(self._redactor.text(text))
        self._open.append(opened)
        ok = False
        try:
            yield
            ok = True
        finally:
            self._open.remove(opened)
            self._open[-1].steps.append(opened.close(ok))


class _OpenStep:
    """A step that has not ended."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.started = time.time()
        self._clock = time.monotonic()
        self.attachments: list[int] = []
        self.steps: list[Step] = []

    def close(self, ok: bool) -> Step:
        return Step(
            text=self.text,
            ok=ok,
            started=self.started,
            seconds=time.monotonic() - self._clock,
            attachments=tuple(self.attachments),
            steps=tuple(self.steps),
        )


def shorten(data: bytes, bound: int) -> bytes:
    """Return ``data`` with at most ``bound`` of its bytes, half from each end, and a line that says so."""
    if len(data) <= bound:
        return data
    head, tail = bound - bound // 2, bound // 2
    note = f"\n… {len(data) - bound} of {len(data)} bytes left out …\n".encode()
    # A cut inside a UTF-8 sequence would turn a text into binary.
    start, end = data[:head], data[len(data) - tail :]
    if _is_text(data):
        start, end = start.decode(errors="ignore").encode(), end.decode(errors="ignore").encode()
    return start + note + end


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
