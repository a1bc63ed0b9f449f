"""One command on one ssh channel: its line, its streams, its end.

The login shell must be a POSIX shell. The line that it gets reports its own process id on stderr before it becomes
the command, which costs no process and no round trip; sshd made that process the leader of a session, so that the
id is all that is needed to kill the command with everything it started (:data:`KILL`).
"""

from __future__ import annotations

import re
import select
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_ai_how.deadline import Deadline, wait_for
from pytest_ai_how.shell import quote
from pytest_ai_how.transport.command import GRACE, Output
from pytest_ai_how.transport.ssh_connect import CONNECT_TIMEOUT

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import Channel, Message, Transport

# Linux, MAX_ARG_STRLEN: sshd hands the line to the shell as one argument.
_LINE_LIMIT = 128 * 1024 - 1
_CHUNK = 65536
# An input that surely fits into the window that OpenSSH opens for a command (2 MiB) needs no thread of its own.
_SMALL = 32 * 1024
# Seconds between looks for an exit status that came while a background process keeps the streams open.
_LOOK = 0.05
# Seconds that sshd may refuse a session before that is an error.
_REFUSED = 2.0
# No exit status is that low.
_UNKNOWN = -1000

#: ``sh -c`` text with a session's id as $1: kills all its processes, succeeds when none is left within some 2 s.
#: Fields of /proc/PID/stat after the name in parentheses: state, ppid, pgrp, session (proc_pid_stat(5)).
KILL = """
session=$1 tries=0
while [ "$tries" -lt 100 ]; do
    left=
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        set -- ${line##*) }
        case $1 in Z|X) continue ;; esac
        [ "$4" = "$session" ] || continue
        left=1 pid=${stat#/proc/}
        kill -KILL "${pid%/stat}" 2>/dev/null
    done
    [ -n "$left" ] || exit 0
    tries=$((tries + 1))
    sleep 0.02
done
exit 1
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A command as the login shell gets it; ``token`` marks the process id on stderr."""

    argv: tuple[str, ...]
    token: str
    home_of: str | None = None

    def __str__(self) -> str:
        # A user's processes must not start in a folder that only root can enter. ~user is expanded by the shell.
        home = f"cd ~{self.home_of} 2>/dev/null || cd /; " if self.home_of else ""
        line = f"printf '{self.token} %s\\n' $$ >&2; {home}export LC_ALL=C.UTF-8; exec {quote(self.argv)}"
        if len(line.encode()) > _LINE_LIMIT:
            raise ValueError(f"{self.argv[0]}: a command of more than {_LINE_LIMIT} bytes; give it as input instead")
        return line

    def pid(self, output: Output) -> int | None:
        """Take the process id out of what the command said on stderr; ``None`` when the shell did not get so far."""
        found = re.search(rf"{self.token} (\d+)\n".encode(), bytes(output.stderr))
        if found is None:
            return None
        del output.stderr[found.start() : found.end()]
        return int(found[1])


def as_user(argv: Sequence[str], user: str | None, *, login: str, sudo: bool) -> tuple[str, ...]:
    """Return the command that runs ``argv`` as ``user``, or as root when ``sudo`` and no user is given."""
    if sudo:
        return ("sudo", "-n", "-H", "-u", user or "root", "--", *argv)
    if user is None or user == login:
        return tuple(argv)
    return ("runuser", "-u", user, "--", *argv)


def converse(channel: Channel, output: Output, data: bytes, deadline: Deadline) -> int | None:
    """Feed and read a command until it ended, and return its status, negative for a signal.

    ``None`` when the deadline passed. Raises :class:`EOFError` when the channel ended without any status.
    """
    _feed(channel, data, deadline)
    waiter = select.poll()
    waiter.register(channel.fileno(), select.POLLIN)
    silence: Deadline | None = None
    while not deadline.passed and not (silence and silence.passed):
        # Asked before reading: what comes after is not lost, as nothing comes after the end.
        ended = channel.eof_received or channel.closed
        said = _drain(channel, output)
        if ended:
            break
        if channel.exit_status_ready() and (said or silence is None):
            silence = Deadline(GRACE)
        waiter.poll(min(deadline.left, _LOOK) * 1000)
    channel.status_event.wait(deadline.left)
    if not channel.status_event.is_set():
        return None
    if channel.exit_status == _UNKNOWN:
        raise EOFError
    return int(channel.exit_status)


def open_channel(connection: Connection, node: str) -> Channel:
    """Open a channel. Raises what paramiko raises, or DeadlineExceeded; then nothing was sent.

    sshd frees a session a moment after its channel was closed, so that under load a refusal is asked again.
    """
    from paramiko import ChannelException

    refused: list[str] = []

    def probe() -> Channel | None:
        try:
            channel: Channel = connection.transport.open_session(timeout=CONNECT_TIMEOUT)
        except ChannelException as error:
            refused.append(str(error))
            return None
        return channel

    return wait_for(probe, within=_REFUSED, what="a session", where=node, every=0.005, last_seen=lambda: refused[-1])


def start(channel: Channel, line: str) -> None:
    """Send the command. Raises what paramiko raises; then it may have run."""
    channel.exit_status = _UNKNOWN
    # paramiko waits for the reply without limit, which a machine that froze never sends.
    guard = threading.Timer(CONNECT_TIMEOUT, channel.close)
    guard.daemon = True
    guard.start()
    try:
        channel.exec_command(line)
    finally:
        guard.cancel()


def watch_signals(transport: Transport) -> None:
    """Make the channels of a connection keep the signal that ended their command.

    paramiko 5.1 ignores the request "exit-signal" (RFC 4254, 6.10), so that a killed command would look like a lost
    one. Its table of handlers is replaced for this connection only.
    """
    from paramiko.common import MSG_CHANNEL_REQUEST

    table: dict[int, Any] = transport._channel_handler_table  # type: ignore[attr-defined]  # no public way
    original = table[MSG_CHANNEL_REQUEST]

    def handle(channel: Channel, message: Message) -> None:
        start = message.packet.tell()
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = -_number(message.get_text())
            channel.status_event.set()
            return
        message.packet.seek(start)
        original(channel, message)

    transport._channel_handler_table = {**table, MSG_CHANNEL_REQUEST: handle}  # type: ignore[attr-defined]  # as above


def _number(name: str) -> int:
    # Names outside RFC 4254 carry the system they come from: "SYS@openssh.com".
    known = signal.Signals.__members__.get(f"SIG{name.partition('@')[0]}")
    return known.value if known else 128


def _feed(channel: Channel, data: bytes, deadline: Deadline) -> None:
    channel.settimeout(max(deadline.left, 0.001))

    def send() -> None:
        try:
            # In pieces, as paramiko's sendall copies all that is left for each packet that it sends.
            for start in range(0, len(data), _CHUNK):
                channel.sendall(data[start : start + _CHUNK])
            channel.shutdown_write()
        except OSError:
            return  # the command ended, or was killed, without reading it all: its status tells

    if len(data) <= _SMALL:
        send()
    else:
        threading.Thread(target=send, name="ssh-input", daemon=True).start()


def _drain(channel: Channel, output: Output) -> bool:
    said = False
    for ready, receive, stream in (
        (channel.recv_ready, channel.recv, output.stdout),
        (channel.recv_stderr_ready, channel.recv_stderr, output.stderr),
    ):
        while ready():
            output.add(stream, receive(_CHUNK))
            said = True
    return said
