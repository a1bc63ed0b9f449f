"""Commands on the machine that pytest runs on."""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pytest_ai_how.deadline import Deadline
from pytest_ai_how.errors import FileError, TransportError
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.command import GRACE, Output, checked, encoded
from pytest_ai_how.transport.protocol import local_path

_CHUNK = 65536


class LocalTransport:
    """A :class:`~pytest_ai_how.transport.Transport` to this machine, without ssh.

    A command gets a session of its own; at its timeout the whole process group is killed. ``user=`` runs the command
    in that user's home, through runuser(1) as root unless that is who runs us. ``environ`` is added to the environment
    of commands.
    """

    def __init__(self, node: str = "localhost", environ: Mapping[str, str] = MappingProxyType({})) -> None:
        self.node, self._environ = node, dict(environ)

    def execute(
        self, argv: Sequence[str], *, timeout: float, input: str | bytes = "", user: str | None = None
    ) -> Result:
        """Run ``argv``; see :class:`~pytest_ai_how.transport.Transport`.

        A program that is not there gives status 127, one that may not be run 126, as in a shell.
        """
        words = checked(argv, user)
        output = Output(self.node, words)
        try:
            process = self._start(words, user)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            output.add(output.stderr, f"{words[0]}: {error.strerror}\n".encode())
            return output.result(127 if isinstance(error, FileNotFoundError) else 126)
        try:
            ended = _converse(process, output, encoded(input), Deadline(timeout))
        finally:
            _end(process)
        if not ended:
            raise output.timeout(timeout)
        return output.result(process.returncode)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file by rename. Raises :class:`~pytest_ai_how.errors.FileError`."""
        target = local_path(path)
        temporary: str | None = None
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                os.fchmod(stream.fileno(), mode)
            Path(temporary).replace(target)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise FileError(self.node, f"{path} could not be written: {error.strerror}") from error

    def get(self, path: str) -> bytes:
        """Read a file. Raises :class:`~pytest_ai_how.errors.FileError`."""
        try:
            return local_path(path).read_bytes()
        except OSError as error:
            raise FileError(self.node, f"{path} could not be read: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is kept."""

    def _start(self, argv: tuple[str, ...], user: str | None) -> subprocess.Popen[bytes]:
        command, home = list(argv), None
        if user is not None:
            account = self._account(user)
            home = account.pw_dir if Path(account.pw_dir).is_dir() else "/"
            if account.pw_uid != os.geteuid():
                command = ["runuser", "-u", user, "--", *argv]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            cwd=home,
            # Programs speak one language, so that what they say can be read.
            env={**os.environ, **self._environ, "LC_ALL": "C.UTF-8"},
        )

    def _account(self, user: str) -> pwd.struct_passwd:
        """Whoever we can run commands as: ourselves, and as root anybody."""
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise TransportError(self.node, f"there is no user {user!r}", cure=f"useradd -m {user}") from None
        if os.geteuid() not in (0, account.pw_uid):
            raise TransportError(self.node, f"cannot run a command as {user!r}", expected="root", cure="run as root")
        return account


def _converse(process: subprocess.Popen[bytes], output: Output, data: bytes, deadline: Deadline) -> bool:
    """Feed and read the process until it ended; ``False`` when the deadline passed first."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    left = memoryview(data)
    ended = os.pidfd_open(process.pid)
    wait = deadline
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, output.stdout)
            selector.register(process.stderr, selectors.EVENT_READ, output.stderr)
            selector.register(ended, selectors.EVENT_READ)
            if left:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE)
            else:
                process.stdin.close()
            while selector.get_map() and not deadline.passed and not wait.passed:
                ready = selector.select(min(deadline.left, wait.left))
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        left = _feed(process, selector, left)
                    elif key.fileobj == ended:
                        process.wait()
                        selector.unregister(ended)
                    elif chunk := os.read(key.fd, _CHUNK):
                        output.add(key.data, chunk)
                    else:
                        selector.unregister(key.fileobj)
                if ready and process.returncode is not None:
                    wait = Deadline(GRACE)
    finally:
        os.close(ended)
    return process.returncode is not None


def _feed(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, left: memoryview) -> memoryview:
    assert process.stdin is not None
    try:
        left = left[os.write(process.stdin.fileno(), left[:_CHUNK]) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:  # it does not want the rest, which is its right
        left = left[:0]
    if not left:
        selector.unregister(process.stdin)
        process.stdin.close()
    return left


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a command that did not end by itself, and let go of its streams."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
