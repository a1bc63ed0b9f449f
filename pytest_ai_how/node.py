"""One machine."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.errors import CommandError, CommandTimeout, FileError
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.command import encoded, file_within, writing
from pytest_ai_how.transport.protocol import Transport

if TYPE_CHECKING:
    from testinfra.host import Host


class Node:
    """A machine of the configuration and the way to it. Several threads may use one node.

    ``pace`` is how many times longer than on this host what it does may take: emulated machines are slow.
    """

    def __init__(self, config: NodeConfig, transport: Transport, pace: float = 1.0) -> None:
        self.pace = pace
        self.config = config
        self.transport = transport
        self.name: str = config.name
        self.roles: tuple[str, ...] = config.roles
        self.address = str(config.address)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.address}>"

    def run(
        self, *argv: str, check: bool = True, timeout: float = 30.0, input: str | bytes = "", user: str | None = None
    ) -> Result:
        """Run a program with exactly these arguments and return its outcome; no shell sees them.

        ``timeout`` in seconds, times the machine's pace. Raises :class:`~pytest_ai_how.errors.CommandError` when
        ``check`` and the status is not 0, :class:`~pytest_ai_how.errors.CommandTimeout`,
        :class:`~pytest_ai_how.errors.TransportError`.
        """
        result = self.transport.execute(argv, timeout=timeout * self.pace, input=input, user=user)
        if check and not result.ok:
            raise CommandError(result)
        return result

    def sh(self, text: str, *, check: bool = True, timeout: float = 30.0, user: str | None = None) -> Result:
        """Run ``text`` by the machine's POSIX shell, where an argument list cannot do. Quote what you put into it."""
        return self.run("sh", "-c", text, check=check, timeout=timeout, user=user)

    def read(self, path: str) -> str:
        """Return a text file (UTF-8). Raises :class:`~pytest_ai_how.errors.FileError`."""
        return self.transport.get(path).decode(errors="replace")

    def write(self, path: str, content: str | bytes, mode: int = 0o644, *, user: str | None = None) -> None:
        """Write a file of any size by rename, as ``user`` (default: the transport's own); text as UTF-8.

        Raises :class:`~pytest_ai_how.errors.FileError`.
        """
        data = encoded(content)
        if user is None:
            self.transport.put(data, path, mode=mode)
        else:
            self._write(path, data, mode, user)

    def _write(self, path: str, data: bytes, mode: int, user: str) -> None:
        size, cause = len(data), None
        try:
            result = self.run(*writing(path, size, mode), check=False, timeout=file_within(size), input=data, user=user)
            if result.ok:
                return
            why = (result.stderr.strip().splitlines() or ["nothing was said about why"])[-1]
        except CommandTimeout as error:
            why, cause = f"not done after {error.timeout:g} s", error
        raise FileError(
            self.name,
            f"{path} could not be written: {why}",
            expected=f"{size} bytes, written by {user}",
            cure=f"see there that {user} may write to that folder, and that its file system has room and answers",
        ) from cause

    @cached_property
    def host(self) -> Host:
        """The ``Host`` of testinfra, over this node's transport: ``node.host.file("/etc/passwd").exists``."""
        from pytest_ai_how.transport.testinfra_backend import testinfra_host

        return testinfra_host(self.name, self.transport)
