"""An sshd of our own on the loopback interface: the node image's, so that this host needs none."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.image import ensure_image
from pytest_ai_how.progress import Silent
from pytest_ai_how.transport import SshTransport

# The image must not be changed, so sshd runs in an overlay over it, in a mount namespace that ends with it. The tests'
# own folder is at the same place inside.
IN_THE_IMAGE = """
set -e
image=$1 folder=$2 shared=$3
shift 3
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=$image,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
for each in proc dev sys; do mount --rbind "/$each" "$folder/root/$each"; done
mkdir -p "$folder/root$shared" "$folder/root/run/sshd"
mount --bind "$shared" "$folder/root$shared"
exec chroot "$folder/root" /usr/sbin/sshd "$@"
"""


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


def keygen(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    host, user = keygen(folder / "host"), keygen(folder / "id")
    (folder / "authorized").write_text(f"{user}\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "LogLevel VERBOSE\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
        f"SetEnv HOME={folder}\n"  # what root's own start-up files do is not to be tested
    )
    (folder / "sshd.log").touch()
    (folder / "overlay").mkdir()
    image = ensure_image("node", Silent()).path
    places = [str(image), str(folder / "overlay"), str(tmp_path_factory.getbasetemp())]
    argv = ["-D", "-f", str(folder / "config"), "-E", str(folder / "sshd.log")]
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", IN_THE_IMAGE, "sh", *places, *argv]
    )
    try:
        wait_for(lambda: "Server listening" in (folder / "sshd.log").read_text(), within=10, what="listening")
        yield Server(folder, port, process)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def ssh(server: Server) -> Iterator[SshTransport]:
    transport = server.transport()
    yield transport
    transport.close()
