"""A machine is given the time to answer, and is told of when it does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pytest_ai_how.config.models import NodeConfig
from pytest_ai_how.drivers.machines import boot
from pytest_ai_how.errors import ProvisionError

NODE = NodeConfig(name="node01", roles=("compute",), address=IPv4Address("127.0.0.1"))


@contextmanager
def sshd(
    monkeypatch: pytest.MonkeyPatch, *, after: float, banner: bytes = b"SSH-2.0-OpenSSH_10.0\r\n"
) -> Iterator[list[float]]:
    """Says its banner ``after`` seconds, as a machine does that is slow to start a process for the connection."""
    connections: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        real = socket.create_connection
        port = server.getsockname()[1]
        monkeypatch.setattr(socket, "create_connection", lambda address, timeout: real((address[0], port), timeout))

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(time.monotonic())
                with connection:
                    threading.Event().wait(after)
                    try:
                        connection.sendall(banner)
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield connections
        server.shutdown(socket.SHUT_RDWR)


def test_a_slow_machine_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(boot, "_CONNECT", 0.2)
    with sshd(monkeypatch, after=0.6) as connections:
        boot.await_ssh(NODE, tmp_path / "console", str, 10.0, every=0.01)
    assert len(connections) == 1, "each connection that is given up costs the machine a process"


def test_a_machine_that_ended_is_told_with_the_end_of_its_console(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "console").write_text("Kernel panic - not syncing\n")
    monkeypatch.setattr(boot, "_BANNER", 0.05)
    with (
        sshd(monkeypatch, after=0.2),
        pytest.raises(ProvisionError, match=r"(?s)node01: it ended; .*Kernel panic"),
    ):
        boot.await_ssh(NODE, tmp_path / "console", lambda: "it ended", 5.0, every=0.01)


def test_what_is_no_sshd_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        sshd(monkeypatch, after=0.0, banner=b"HTTP/1.1 400\r\n"),
        pytest.raises(ProvisionError, match=r"(?s)node01: not answering on port 22 within 0.2 s.*\(nothing\)"),
    ):
        boot.await_ssh(NODE, tmp_path / "console", str, 0.2, every=0.01)


def test_a_console_that_is_root_s_hides_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = tmp_path / "console.log"
    console.touch()

    def read_text(_self: Path, **_how: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", read_text)
    said = str(boot.boot_failed(NODE, console, "it ended"))
    assert (
        "it ended; the console's end:\n    (not ours to read: the daemon's /etc/libvirt/qemu.conf says stdio_" in said
    )
