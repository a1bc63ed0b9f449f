"""Opening an ssh connection that trusts one pinned host key and one key file, and nothing else of this machine's."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ai_how.errors import HostKeyError, TransportError

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import PKey, Transport

#: Seconds for the TCP connection, and again for each of banner, authentication and opening a channel.
CONNECT_TIMEOUT = 10.0
# Seconds between paramiko's looks at each idle connection, whether it was closed or is to renew its keys. By itself it
# looks ten times a second, which with 200 machines is 2000 times.
_LOOK = 1.0
_FIRST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a machine's sshd is, and what proves it and us."""

    node: str
    address: str
    port: int
    user: str
    key: Path
    known_hosts: Path

    @property
    def known_name(self) -> str:
        """The name that known_hosts(5) has the machine's key under."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    def __str__(self) -> str:
        return f"{self.user}@{self.address}:{self.port}"


def connect(endpoint: Endpoint) -> Connection:
    """Return an open connection.

    Raises :class:`~pytest_ai_how.errors.HostKeyError` before anything is said about us when the machine does not
    show the pinned key, and :class:`~pytest_ai_how.errors.TransportError` for all else.
    """
    from paramiko import AuthenticationException, BadHostKeyException, SSHException

    log = logging.getLogger("paramiko")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # what it says is in our errors; without this it goes to stderr as well
    connection = _connection(endpoint)
    client = connection.client  # fabric closes only what it thinks is connected
    try:
        connection.open()
    except HostKeyError:
        client.close()
        raise
    except BadHostKeyException as error:
        client.close()
        raise _wrong_key(endpoint, error.key, error.expected_key) from error
    except AuthenticationException as error:
        client.close()
        raise TransportError(
            endpoint.node,
            f"{endpoint} refused the login with the key {endpoint.key}: {error}",
            cure=f"add {endpoint.key}.pub to ~{endpoint.user}/.ssh/authorized_keys there",
        ) from error
    except (OSError, EOFError, SSHException, ValueError) as error:
        client.close()
        if isinstance(error, SSHException) and "banner" in str(error):  # paramiko's word for RFC 4253's first line
            raise TransportError(
                endpoint.node,
                f"something takes connections at {endpoint} and does not answer as sshd does: {error}",
                cure=f"see what listens there: ss -ltnp 'sport = :{endpoint.port}', or correct the port",
            ) from error
        raise TransportError(
            endpoint.node,
            f"no ssh connection to {endpoint}: {str(error) or type(error).__name__}",
            cure="see that the machine is up, that sshd runs there and that the address and port are right",
        ) from error
    wire = connection.transport.sock
    wire.settimeout(_LOOK)
    # Nagle's algorithm holds back the small packets that opening a channel consists of.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that vanished says nothing: give up on it once it has not acknowledged for this long (tcp(7)), in ms.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2 * CONNECT_TIMEOUT * 1000))
    return connection


def hang_up(connection: Connection) -> None:
    """Close a connection at once: else both ends would learn of it when paramiko looks the next time."""
    with suppress(OSError):  # it is closed already
        connection.transport.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _connection(endpoint: Endpoint) -> Connection:
    from fabric import Config, Connection

    for what, path in (("key", endpoint.key), ("known_hosts file", endpoint.known_hosts)):
        if not path.is_file():
            raise TransportError(
                endpoint.node, f"the {what} {path} to reach {endpoint} by does not exist", cure=f"provide {path}"
            )
    # lazy: neither fabric's nor ssh's configuration files are read.
    config = Config(overrides={"load_ssh_configs": False}, lazy=True)
    connection = Connection(
        endpoint.address,
        user=endpoint.user,
        port=endpoint.port,
        config=config,
        connect_timeout=CONNECT_TIMEOUT,
        connect_kwargs={
            "key_filename": str(endpoint.key),
            "allow_agent": False,
            "look_for_keys": False,
            "banner_timeout": CONNECT_TIMEOUT,
            "auth_timeout": CONNECT_TIMEOUT,
            "channel_timeout": CONNECT_TIMEOUT,
            "transport_factory": _transport,
        },
    )
    for key in pinned(endpoint.known_hosts, endpoint.known_name):
        connection.client.get_host_keys().add(endpoint.known_name, key.get_name(), key)
    connection.client.set_missing_host_key_policy(_Refuse(lambda key: _wrong_key(endpoint, key, None)))
    return connection


def _transport(*args: Any, **options: Any) -> Transport:
    """Our end of a connection, which asks for AES-GCM (RFC 5647; OpenSSH has it by default) before the other ciphers.

    By itself paramiko prefers AES-CTR and a MAC, which it compares byte by byte in Python; in a profile of 200 machines
    that was a large part of reading packets.
    """
    from paramiko import Transport

    transport = Transport(*args, **options)
    security = transport.get_security_options()
    others = tuple(one for one in security.ciphers if one not in _FIRST_CIPHERS)
    security.ciphers = (*_FIRST_CIPHERS, *others)
    return transport


def pinned(known_hosts: Path, name: str) -> Iterator[PKey]:
    """The keys that known_hosts(5) has for ``name``, the first of each type, as paramiko would choose them.

    paramiko parses all keys of the file for each connection, and compares each with all before it; with a file of 200
    machines that took as long as the connections themselves. Names may be hashed; patterns and markers match nothing.
    """
    from paramiko import SSHException
    from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey

    found = set[str]()
    for number, line in enumerate(known_hosts.read_text(errors="replace").splitlines(), 1):
        if name not in line and "|1|" not in line:  # most lines of a large file, at no cost
            continue
        names = line.split(maxsplit=1)[:1]
        if not names or (name not in names[0].split(",") and not _hashed(names[0], name, HostKeys.hash_host)):
            continue
        try:
            entry = HostKeyEntry.from_line(line.strip(), number)
        except (InvalidHostKey, SSHException):  # no key that could be trusted
            continue
        if entry is not None and entry.key is not None and entry.key.get_name() not in found:
            found.add(entry.key.get_name())
            yield entry.key


def _hashed(names: str, name: str, hash_host: Callable[[str, str], str]) -> bool:
    return any(one.startswith("|1|") and hash_host(name, one) == one for one in names.split(","))


@dataclass(frozen=True, slots=True)
class _Refuse:
    """A policy of paramiko for a machine that known_hosts does not name."""

    error: Callable[[PKey], HostKeyError]

    def missing_host_key(self, _client: Any, _hostname: str, key: PKey) -> None:
        raise self.error(key)


def _wrong_key(endpoint: Endpoint, offered: PKey, pinned: PKey | None) -> HostKeyError:
    expected = f"{_describe(pinned)} as in {endpoint.known_hosts}" if pinned else f"a key in {endpoint.known_hosts}"
    return HostKeyError(
        endpoint.node,
        f"{endpoint.address}:{endpoint.port} shows the host key {_describe(offered)}"
        + ("" if pinned else f", and none is pinned for {endpoint.known_name}"),
        expected=expected,
        cure="find out whether the machine was made anew or another one answers; then replace its line in that file",
    )


def _describe(key: PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"
