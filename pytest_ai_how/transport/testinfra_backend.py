"""testinfra's modules over one of our transports. Imported by :attr:`pytest_ai_how.node.Node.host` alone."""

from __future__ import annotations

from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from pytest_ai_how.transport.protocol import Transport

#: Seconds that one of testinfra's commands may take; they are look-ups.
TIMEOUT = 30.0


class TransportBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """Sends testinfra's commands, which are shell text, through a :class:`~pytest_ai_how.transport.Transport`."""

    NAME = "pytest-ai-how"

    def __init__(self, node: str, transport: Transport) -> None:
        super().__init__(node)
        self._transport = transport
        # What the transports decode by; testinfra would run python3 on the machine to find out.
        self._encoding = "utf-8"

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        """Run testinfra's command text by the machine's shell; ``args`` are quoted into it by testinfra."""
        text = self.get_command(command, *args)
        done = self._transport.execute(["sh", "-c", text], timeout=TIMEOUT)
        return self.result(done.returncode, text.encode(), done.stdout, done.stderr)


def testinfra_host(node: str, transport: Transport) -> Host:
    """Return testinfra's ``Host`` for one machine."""
    backend = TransportBackend(node, transport)
    host = Host(backend)
    backend.set_host(host)
    return host
