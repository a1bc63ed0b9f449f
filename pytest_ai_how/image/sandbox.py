"""Run the commands of a build so that nothing of them outlives it: no process, no mount.

Each command gets its own mount and PID namespace (unshare(1)) and is told by the kernel to die with us
(``PR_SET_PDEATHSIG``). When the namespace's first process dies, the kernel kills all others in it, and with the last
one the mounts vanish; so that ``kill -9`` of everything of ours undoes a half-built root's mounts too. Their temporary
files go where :meth:`Sandbox.keeping` says: who is killed removes none of them.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.shell import Result

# The end of what a command said, in lines: enough for apt's reasons.
KEPT_LINES = 60
_ISOLATE = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child")
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
# How a machine with a proxy reaches its mirror.
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy")
# A folder of this machine: what runs in a root has the root's own /tmp.
_TEMPORARY = "TMPDIR"
# What builds make is the same, and for every account to read, whatever the umask of who builds.
_UMASK = 0o022


class Sandbox:
    """Runs commands, several at once from several threads; leaving the block or :meth:`kill` ends all of them."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._killed = threading.Event()
        self._temporary = os.environ.get(_TEMPORARY, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """End everything that runs, at once, and refuse to begin anything else."""
        with self._lock:
            self._killed.set()
            for process in self._running:
                os.killpg(process.pid, signal.SIGKILL)

    def keeping(self, folder: Path) -> Sandbox:
        """The same sandbox, whose commands keep their temporary files in ``folder``, which is made.

        It is root's alone, as is whatever uses it: mmdebstrap in its mode ``root`` and apt without a user of its own.
        What mmdebstrap leaves to the account ``_apt``, it puts into the new root's ``/tmp``.
        """
        folder.mkdir(mode=0o700)
        one = copy.copy(self)
        one._temporary = str(folder)
        return one

    def run(
        self,
        argv: Sequence[str],
        *,
        root: Path | None = None,
        input: str = "",
        env: Mapping[str, str] | None = None,
        line: Callable[[str], None] | None = None,
        keep: int | None = KEPT_LINES,
    ) -> Result:
        """Run ``argv``, in ``root`` if given (chroot, with its own /proc); ``line`` gets each line it says,
        the last ``keep`` of them (None: all) are in the result.

        Raises :class:`~pytest_ai_how.errors.CommandError` with the last lines when it exits with another status than
        0, and ImageError when the sandbox was told to end.
        """
        inside = ("chroot", str(root)) if root else ()
        proc = f"--mount-proc={root}/proc" if root else "--mount-proc"
        full = (*_ISOLATE, proc, "--propagation", "private", "--", *inside, *argv)
        process = self._start(full, {**_ENVIRONMENT, **self._passed_on(root is None), **(env or {})})
        said: deque[str] = deque(maxlen=keep)
        try:
            # Steps say little before they have read all of their input, so the two pipes cannot block each other.
            assert process.stdin is not None
            assert process.stdout is not None
            with process.stdin:
                process.stdin.write(input)
            for text in process.stdout:
                said.append(text.rstrip("\n"))
                if line:
                    line(said[-1])
            status = process.wait()
        finally:
            self._end(process)
        if self._killed.is_set():
            raise ImageError("localhost", f"interrupted while running {argv[0]}")
        result = Result(tuple(argv), status, "\n".join(said))
        if status != 0:
            raise CommandError(result)
        return result

    def _start(self, argv: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._killed.is_set():
                raise ImageError("localhost", "interrupted")
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=dict(env),
                start_new_session=True,
                umask=_UMASK,
            )
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._running.discard(process)
            if process.stdout:
                process.stdout.close()

    def _passed_on(self, outside: bool) -> dict[str, str]:
        temporary = {_TEMPORARY: self._temporary} if outside and self._temporary else {}
        return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | temporary
