"""Commands on a machine over ssh, by fabric and paramiko."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.deadline import Deadline
from pytest_ai_how.errors import DeadlineExceeded, FileError, OutputLimitExceeded, TransportError
from pytest_ai_how.shell import Result, quote
from pytest_ai_how.transport.command import Output, checked, encoded, file_within, writing
from pytest_ai_how.transport.protocol import local_path
from pytest_ai_how.transport.ssh_channel import KILL, Line, as_user, converse, mend, open_channel, start
from pytest_ai_how.transport.ssh_connect import Endpoint, connect, hang_up

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel

# sshd_config(5): MaxSessions is 10 by default. Two are left for killing what timed out.
_SESSIONS = 8
# Seconds for a kill, and MiB of a file that is read.
_KILL_TIMEOUT = 10.0
_FILE_LIMIT = 64


@dataclass
class SshTransport:
    """A :class:`~pytest_ai_how.transport.Transport` over one kept ssh connection, opened at the first use.

    Only ``key`` authenticates, only the keys in ``known_hosts`` are trusted, and nothing else of this machine's ssh
    set-up is used: no agent, no default keys, no configuration files. ``sudo`` runs commands as root when the login
    is another user. Threads may share it: up to eight commands run at once, more wait. A kept connection that
    turned out dead is opened anew once; a command that was sent is never sent again.
    """

    node: str
    address: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    sudo: bool = False
    _connection: Connection | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _slots: threading.BoundedSemaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._slots = threading.BoundedSemaphore(_SESSIONS)

    def execute(
        self, argv: Sequence[str], *, timeout: float, input: str | bytes = "", user: str | None = None
    ) -> Result:
        """Run ``argv``; see :class:`~pytest_ai_how.transport.Transport`. At its timeout its session is killed."""
        words = checked(argv, user)
        status, output = self._execute(words, encoded(input), timeout, user)
        return output.result(status)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file by rename. Raises :class:`~pytest_ai_how.errors.FileError`."""
        status, output = self._execute(writing(path, len(content), mode), content, file_within(len(content)))
        if status:
            raise FileError(self.node, f"{path} could not be written: {_last(output)}")

    def get(self, path: str) -> bytes:
        """Read a file of at most 64 MiB. Raises :class:`~pytest_ai_how.errors.FileError`."""
        words = ("cat", "--", str(local_path(path)))
        status, output = self._execute(words, b"", file_within(_FILE_LIMIT * 2**20))
        if status:
            raise FileError(self.node, f"{path} could not be read: {_last(output)}")
        return bytes(output.stdout)

    def open(self) -> None:
        """Connect, unless it is connected: a command that carries the time must not wait for a login.

        Raises what :meth:`execute` raises when the machine is not reached.
        """
        self._connected()

    def close(self) -> None:
        """Drop the kept connection; commands that run on it are lost. The next call connects again."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            hang_up(connection)

    def _execute(
        self, argv: tuple[str, ...], data: bytes, timeout: float, user: str | None = None
    ) -> tuple[int, Output]:
        become = as_user(argv, user, login=self.user, sudo=self.sudo)
        home = user if become[0] == "runuser" else None
        line = Line(become, f"pid-{secrets.token_hex(8)}", home_of=home)
        text = str(line)
        if not self._slots.acquire(timeout=timeout):
            raise TransportError(self.node, f"`{quote(argv)}` waited {timeout:g} s behind {_SESSIONS} other commands")
        try:
            return self._converse(line, text, Output(self.node, argv), data, timeout)
        finally:
            self._slots.release()

    def _converse(self, line: Line, text: str, output: Output, data: bytes, timeout: float) -> tuple[int, Output]:
        from paramiko import SSHException

        connection, channel = self._session()
        try:
            start(channel, text)
            status = converse(channel, output, data, Deadline(timeout))
            if status is None:
                self._kill(connection, line, output)
                raise output.timeout(timeout)
        except OutputLimitExceeded:
            self._kill(connection, line, output)
            raise
        except (EOFError, OSError, SSHException) as error:
            raise TransportError(
                self.node,
                f"the connection to {self._endpoint} broke while `{quote(output.argv)}` ran: "
                f"{str(error) or type(error).__name__}",
                expected="an exit status; it may have run, so it was not sent again",
                cure="see whether the machine is up, and what sshd's log there says",
            ) from error
        finally:
            channel.close()
        line.pid(output)
        return status, output

    def _session(self) -> tuple[Connection, Channel]:
        """Return an open channel and its connection; nothing was sent on it, so a dead connection is replaced once."""
        from paramiko import SSHException

        connection, kept = self._connected()
        try:
            return connection, open_channel(connection, self.node)
        except DeadlineExceeded as error:
            raise self._refused(error) from error
        except (EOFError, OSError, SSHException) as error:
            self._drop(connection)
            if not kept:
                raise self._refused(error) from error
        connection, _ = self._connected()
        try:
            return connection, open_channel(connection, self.node)
        except (DeadlineExceeded, EOFError, OSError, SSHException) as error:
            self._drop(connection)
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> TransportError:
        return TransportError(
            self.node,
            f"{self._endpoint} opened no session: {str(error) or type(error).__name__}",
            cure="see what sshd's log there says, and that MaxSessions is 10 or more",
        )

    def _connected(self) -> tuple[Connection, bool]:
        """Return the connection, and whether it had been kept (and so may be dead)."""
        with self._lock:
            if self._connection is not None:
                if self._connection.is_connected:
                    return self._connection, True
                hang_up(self._connection)
            self._connection = connect(self._endpoint)
            mend(self._connection.transport)
            return self._connection, False

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        hang_up(connection)

    @property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self.node, self.address, self.port, self.user, self.key, self.known_hosts)

    def _kill(self, connection: Connection, line: Line, output: Output) -> None:
        """Kill the command's session and see that it is gone, or say that this could not be done."""
        from paramiko import SSHException

        pid = line.pid(output)
        said = Output(self.node, ("sh", "-c", KILL, "sh", str(pid)))
        why = "its process id is not known"
        if pid is not None:
            kill = Line(as_user(said.argv, None, login=self.user, sudo=self.sudo), f"pid-{secrets.token_hex(8)}")
            try:
                with open_channel(connection, self.node) as channel:
                    start(channel, str(kill))
                    if converse(channel, said, b"", Deadline(_KILL_TIMEOUT)) == 0:
                        return
                why = f"some of its processes remain in session {pid}: {_last(said)}"
            except (DeadlineExceeded, EOFError, OSError, SSHException) as error:
                why = f"process {pid}: {str(error) or type(error).__name__}"
        raise TransportError(
            self.node,
            f"`{quote(output.argv)}` did not end in time and could not be killed ({why})",
            cure="see whether the machine still answers; look for the process there",
        )


def _last(output: Output) -> str:
    lines = output.result(0).stderr.strip().splitlines()
    return lines[-1] if lines else "nothing was said about why"
