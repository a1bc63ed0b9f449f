"""Whether a machine that was started answers, and what its console said when it does not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.errors import DeadlineExceeded, ProvisionError

_TAIL = 15
# Seconds. Each connection starts a process in the machine before the banner comes. One that is given up and made anew
# every second keeps a slow machine so busy with starting them that none ever gets so far.
_CONNECT, _BANNER = 1.0, 30.0


def await_ssh(
    node: NodeConfig, console: Path, ended: Callable[[], str], within: float | Deadline, every: float
) -> None:
    """Wait until the machine's sshd answers; ``ended`` says why it never will, if so.

    Raises :class:`ProvisionError` with the console's end when it does not.
    """

    def answers() -> bool:
        try:
            with socket.create_connection((str(node.address), 22), timeout=_CONNECT) as connection:
                connection.settimeout(_BANNER)
                return connection.recv(4) == b"SSH-"
        except OSError:
            if why := ended():
                raise boot_failed(node, console, why) from None
            return False

    try:
        wait_for(answers, within=within, what="answering on port 22", where=node.name, every=every)
    except DeadlineExceeded as error:
        raise boot_failed(node, console, error.seen) from error


def boot_failed(node: NodeConfig, console: Path, seen: str) -> ProvisionError:
    """The error for a machine that does not come up."""
    try:
        said = console.read_text(errors="replace").strip().splitlines()[-_TAIL:] if console.exists() else []
    except PermissionError:
        # libvirt gives root a console that it opens itself, though the machine is another's.
        said = ['(not ours to read: the daemon\'s /etc/libvirt/qemu.conf says stdio_handler = "file")']
    tail = "\n".join(f"    {line}" for line in said) or "    (nothing)"
    return ProvisionError(
        node.name,
        f"{seen}; the console's end:\n{tail}",
        expected=f"sshd answering on {node.address} port 22",
        cure=f"read {console}",
    )
