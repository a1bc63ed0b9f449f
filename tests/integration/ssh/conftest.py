"""The sshd that the transport is put to the test on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_ai_how.transport import SshTransport
from tests.sshd import free_port, serving


@dataclass
class Server:
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def transport(self, **changes: object) -> SshTransport:
        return replace(self._plain(), **changes)  # type: ignore[arg-type]  # the tests name fields of it

    def _plain(self) -> SshTransport:
        files = {"key": self.folder / "id", "known_hosts": self.folder / "known_hosts"}
        return SshTransport("node01", "127.0.0.1", self.port, "root", **files)

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()

    def connections(self) -> list[int]:
        return children(self.process.pid)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def signal_connection(pid: int, number: int) -> None:
    """Signal sshd's processes of one connection: the monitor, and since OpenSSH 9.8 the one that speaks."""
    of_sshd = [child for child in children(pid) if Path(f"/proc/{child}/comm").read_text().startswith("sshd")]
    for each in (*of_sshd, pid):
        with contextlib.suppress(ProcessLookupError):  # the monitor may end with the other
            os.kill(each, number)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    settings = (
        f"ListenAddress 127.0.0.1\nPort {port}\nLogLevel VERBOSE\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    with serving(folder, settings, tmp_path_factory.getbasetemp()) as process:
        host = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
        yield Server(folder, port, process)


@pytest.fixture
def ssh(server: Server) -> Iterator[SshTransport]:
    transport = server.transport()
    yield transport
    transport.close()
