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
# Seconds between looks whether the machine takes more input: a full window of 2 MiB is emptied in some 20 ms.
_WINDOW = 0.001
# Seconds between looks for an exit status that came while a background process keeps the streams open.
_LOOK = 0.05
# Seconds that sshd may refuse a session before that is an error.
_REFUSED = 2.0
# No exit status is that low.
_UNKNOWN = -1000
# Any token: to compile a pattern for each command took longer than to send it.
_PID = re.compile(rb"(pid-[0-9a-f]+) (\d+)\n")

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
        told = _PID.finditer(bytes(output.stderr))
        found = next((one for one in told if one[1] == self.token.encode()), None)
        if found is None:
            return None
        del output.stderr[found.start() : found.end()]
        return int(found[2])


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
    source = _Input(channel, data)
    waiter = select.poll()
    waiter.register(channel.fileno(), select.POLLIN)
    silence: Deadline | None = None
    while not deadline.passed and not (silence and silence.passed):
        # Asked before reading: what comes after is not lost, as nothing comes after the end.
        ended = channel.eof_received or channel.closed
        said = _drain(channel, output)
        if ended:
            break
        source.feed()
        if channel.exit_status_ready() and (said or silence is None):
            silence = Deadline(GRACE)
        waiter.poll(min(deadline.left, _LOOK if source.done else _WINDOW) * 1000)
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
    from paramiko import SSHException

    refused: list[str] = []

    def probe() -> Channel | None:
        asked = Deadline(CONNECT_TIMEOUT)
        try:
            channel: Channel = connection.transport.open_session(timeout=CONNECT_TIMEOUT)
        except SSHException as error:
            # Two refusals at once share one place for their reason in paramiko, so that the kind of error does not
            # tell. A connection that lives and answered did refuse; it must not be dropped under other commands.
            if asked.passed or not connection.transport.is_active():
                raise
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


def mend(transport: Transport) -> None:
    """Mend two things in paramiko 5.1 for the channels of this connection; its handlers are replaceable, not public.

    It ignores the request "exit-signal" (RFC 4254, 6.10), so that a killed command would look like a lost one.

    It answers the server's CLOSE in its own thread while the caller's thread may be about to send. The server frees
    the channel's number with that answer and gives it to the next channel, and what was about to be sent arrives
    there: the end of another command's input. So only the caller's thread closes, after it has sent all.
    """
    from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST

    table: dict[int, Any] = transport._channel_handler_table  # type: ignore[attr-defined]  # no public way
    requested, closed = table[MSG_CHANNEL_REQUEST], table[MSG_CHANNEL_CLOSE]

    def request(channel: Channel, message: Message) -> None:
        start = message.packet.tell()
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = -_number(message.get_text())
            channel.status_event.set()
            return
        message.packet.seek(start)
        requested(channel, message)

    def close(channel: Channel, message: Message) -> None:
        if channel.closed:
            closed(channel, message)
            return
        channel._handle_eof(message)  # type: ignore[attr-defined]  # wakes who reads
        channel.status_event.set()
        channel.event.set()
        transport._unlink_channel(channel.chanid)  # type: ignore[attr-defined]  # nothing more comes for it

    handlers = {**table, MSG_CHANNEL_REQUEST: request, MSG_CHANNEL_CLOSE: close}
    transport._channel_handler_table = handlers  # type: ignore[attr-defined]  # as above


def _number(name: str) -> int:
    # Names outside RFC 4254 carry the system they come from: "SYS@openssh.com".
    known = signal.Signals.__members__.get(f"SIG{name.partition('@')[0]}")
    return known.value if known else 128


@dataclass(slots=True)
class _Input:
    """What a command still has to be given."""

    channel: Channel
    data: bytes
    at: int = 0
    done: bool = False

    def feed(self) -> None:
        """Send what the machine takes now, and the end of the input after the last of it."""
        if self.done:
            return
        try:
            while self.at < len(self.data) and self.channel.send_ready():
                self.at += self.channel.send(self.data[self.at : self.at + _CHUNK])
            if self.at == len(self.data):
                self.channel.shutdown_write()
                self.done = True
        except OSError:
            self.done = True  # the command ended, or was killed, without reading it all: its status tells


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
