"""What was made, written down before it is made, so that it can be undone whatever happens in between.

One JSON object a line, appended and fsync'ed::

    {"op": "intend", "id": "5f0c…", "step": "machines", "kind": "mount", "data": {"target": "/…"}}
    {"op": "undone", "id": "5f0c…"}
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import LeaseError, RecordError


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is, or may be, there. ``step`` is the bring-up step that made it; ``id`` is unique."""

    kind: str
    data: Mapping[str, str]
    step: str = ""
    id: str = ""


class Journal:
    """An append-only file that several processes may write to at once.

    An action may start only after :meth:`intend` has returned, so a line that was torn by a crash or power cut stands
    for nothing that was done: it is ignored, and cut off by the next writer.
    """

    def __init__(self, path: Path, step: str = "") -> None:
        self.path, self.step = path, step

    def of(self, step: str) -> Journal:
        """The same journal, for the parts of one bring-up step."""
        return Journal(self.path, step)

    def intend(self, kind: str, **data: str) -> Entry:
        """Write down what is about to be made; on disk when this returns. Raises LeaseError when it can't be."""
        entry = Entry(kind, data, self.step, uuid.uuid4().hex)
        self._append({"op": "intend", "id": entry.id, "step": entry.step, "kind": kind, "data": data})
        return entry

    def undone(self, entry: Entry) -> None:
        """Write down that ``entry`` was undone and that nothing of it remains."""
        self._append({"op": "undone", "id": entry.id})

    def pending(self) -> list[Entry]:
        """What is still to undo, in the order of making; empty when there is no journal.

        Raises :class:`RecordError` naming ``file:line`` for anything unreadable but a torn last line.
        """
        found: dict[str, Entry] = {}
        for number, line in self._lines():
            self._apply(found, number, line)
        return list(found.values())

    def salvage(self) -> list[Entry]:
        """Like :meth:`pending`, from the lines that can be read: for a forced clean-up only."""
        found: dict[str, Entry] = {}
        try:
            for number, line in self._lines():
                with suppress(RecordError):
                    self._apply(found, number, line)
        except RecordError:  # not even a file
            return []
        return list(found.values())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreadable(1, str(error)) from error
        whole = content[: content.rfind(b"\n") + 1]
        yield from enumerate(whole.splitlines(), start=1)

    def _apply(self, found: dict[str, Entry], number: int, line: bytes) -> None:
        try:
            match json.loads(line):
                case {"op": "intend", "id": str(id_), "step": str(step), "kind": str(kind), "data": dict(data)} if all(
                    isinstance(value, str) for value in data.values()
                ):
                    found[id_] = Entry(kind, data, step, id_)
                case {"op": "undone", "id": str(id_)}:
                    found.pop(id_, None)
                case other:
                    raise self._unreadable(number, f"not a journal line: {json.dumps(other)[:80]}")
        except ValueError as error:
            raise self._unreadable(number, f"not JSON ({error}): {line[:80]!r}") from error

    def _unreadable(self, number: int, seen: str) -> RecordError:
        cluster = self.path.parent.name
        return RecordError(
            f"{self.path}:{number}",
            seen,
            expected="one JSON object a line, op intend or undone",
            cure=f"pytest-ai-how reap --force {cluster} (finds what is left by its mark, then sets the file aside)",
        )

    def _append(self, line: Mapping[str, object]) -> None:
        encoded = json.dumps(line, ensure_ascii=True).encode() + b"\n"
        try:
            with self._opened() as descriptor:
                self._cut_torn_line(descriptor)
                written = os.write(descriptor, encoded)
                os.fsync(descriptor)
        except OSError as error:
            raise LeaseError(str(self.path), f"cannot be written ({error.strerror}); nothing was done") from error
        if written < len(encoded):  # a full disk; the next writer cuts the torn line off
            raise LeaseError(str(self.path), "cannot be written (no space left on device); nothing was done")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file, locked against other writers; a new file's name is on disk too."""
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_new:
                sync_folder(self.path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    @staticmethod
    def _cut_torn_line(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
            return
        content = os.pread(descriptor, size, 0)
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on disk (a file's own fsync does not)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
