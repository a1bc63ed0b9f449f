"""Opening an ssh connection that trusts one pinned host key and one key file, and nothing else of this machine's."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ai_how.errors import HostKeyError, TransportError

if TYPE_CHECKING:
    from fabric import Connection
    from paramiko import PKey

#: Seconds for the TCP connection, and again for each of banner, authentication and opening a channel.
CONNECT_TIMEOUT = 10.0


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
        raise TransportError(
            endpoint.node,
            f"no ssh connection to {endpoint}: {error or type(error).__name__}",
            cure="see that the machine is up, that sshd runs there and that the address and port are right",
        ) from error
    wire = connection.transport.sock
    # Nagle's algorithm holds back the small packets that opening a channel consists of.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that vanished says nothing: give up on it once it has not acknowledged for this long (tcp(7)), in ms.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2 * CONNECT_TIMEOUT * 1000))
    return connection


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
        },
    )
    # As "system" keys they are only read; paramiko would write the others back.
    connection.client.load_system_host_keys(str(endpoint.known_hosts))
    connection.client.set_missing_host_key_policy(_Refuse(lambda key: _wrong_key(endpoint, key, None)))
    return connection


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
