"""What was read of machines, for all processes of a run: in the cluster's state folder, for its owner's eyes alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_ai_how.facts import Read
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.shell import Result

_FILE, _LOCK = "facts.json", "facts.lock"


class DiskShelf:
    """A :class:`~pytest_ai_how.facts.Shelf` that several processes share, in the folder ``state``.

    What machines say may hold secrets, so the file is its owner's alone (0600), and whoever owns the run clears it when
    the run begins and ends.
    """

    def __init__(self, state: Path) -> None:
        self._file, self._locks = state / _FILE, Locks(state)
        self._read: Read = {}
        self._version: tuple[int, ...] = ()

    @contextmanager
    def open(self) -> Iterator[Read]:
        """See :class:`~pytest_ai_how.facts.Shelf`. Who comes second waits, and then need not ask the machines."""
        with self._locks.hold(_LOCK):
            if (version := self._there()) != self._version:
                self._read, self._version = self._load() if version else {}, version
            before = {node: len(found) for node, found in self._read.items()}
            try:
                yield self._read
            finally:
                if {node: len(found) for node, found in self._read.items()} != before:
                    self._save()
                    self._version = self._there()

    def clear(self) -> None:
        """Leave nothing."""
        self._file.unlink(missing_ok=True)

    def _there(self) -> tuple[int, ...]:
        with suppress(FileNotFoundError):
            found = self._file.stat()
            return found.st_ino, found.st_mtime_ns, found.st_size
        return ()

    def _load(self) -> Read:
        read: Read = {}
        for node, argv, *said in json.loads(self._file.read_bytes()):
            status, out, errors, seconds = said
            read.setdefault(node, {})[tuple(argv)] = Result(tuple(argv), status, out, errors, seconds, node)
        return read

    def _save(self) -> None:
        told = [
            (node, argv, one.returncode, one.stdout, one.stderr, one.seconds)
            for node, found in self._read.items()
            for argv, one in found.items()
        ]
        fresh = self._file.with_name(f".{_FILE}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(told, file)
        fresh.replace(self._file)
