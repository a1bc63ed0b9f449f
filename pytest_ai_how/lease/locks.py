"""Locks between processes: flock(2) on files of the cluster's state folder.

The kernel drops them when their holder dies, however it dies. Descriptors are close-on-exec and closed after a fork,
so a machine's process that outlives us never holds one.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class Locks:
    """The locks of one folder. Each hold has its own descriptor, so threads of one process exclude each other too.

    Blocking holds wait in the kernel, without polling: it wakes the next one at once, and the wait ends with the
    holder, whose own work is bounded by deadlines. A signal handler that raises (Ctrl-C, SIGTERM) ends the wait.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: set[int] = set()
        os.register_at_fork(after_in_child=partial(_forget, weakref.ref(self)))

    def take(self, name: str, *, shared: bool = False, wait: bool = True) -> int | None:
        """Lock the file ``name`` and return its descriptor for :meth:`drop`; None when ``wait`` is off and it is held.

        The file may be removed by whoever held it before: what is locked is always the one that lies there now.
        Raises :class:`FileNotFoundError` when the folder is gone.
        """
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        path = self.folder / name
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._held.add(descriptor)
            try:
                fcntl.flock(descriptor, mode)
            except BlockingIOError:
                self.drop(descriptor)
                return None
            except BaseException:
                self.drop(descriptor)
                raise
            if _lies_at(descriptor, path):
                return descriptor
            self.drop(descriptor)

    def drop(self, descriptor: int) -> None:
        """Give a lock back; without effect in a forked child, which never had it."""
        if descriptor in self._held:
            self._held.discard(descriptor)
            os.close(descriptor)

    @contextmanager
    def hold(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """Hold a lock for the length of a block, waiting for it."""
        descriptor = self.take(name, shared=shared)
        assert descriptor is not None  # take() waits
        try:
            yield
        finally:
            self.drop(descriptor)

    @contextmanager
    def hold_fairly(self, name: str, gate: str, *, shared: bool) -> Iterator[None]:
        """Hold ``name``, having passed ``gate``: who waits for it alone is not overtaken by new sharers."""
        with self.hold(gate):
            descriptor = self.take(name, shared=shared)
        assert descriptor is not None  # take() waits
        try:
            yield
        finally:
            self.drop(descriptor)

    def _close_all(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()


def _forget(locks: weakref.ref[Locks]) -> None:
    """In a forked child: close the inherited descriptors. Closing unlocks nothing while the parent has them open."""
    if (found := locks()) is not None:
        found._close_all()


def _lies_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
