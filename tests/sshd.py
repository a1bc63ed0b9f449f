"""An sshd of our own on the loopback interface: the node image's, so that this host needs none."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.image import ensure_image
from pytest_ai_how.progress import Silent

# The image must not be changed, so sshd runs in an overlay over it, in a mount namespace that ends with it. The tests'
# own folder is at the same place inside. In a network of its own there is the loopback interface, and nothing else.
IN_THE_IMAGE = """
set -e
image=$1 folder=$2 shared=$3
shift 3
ip link set dev lo up
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=$image,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
for each in proc dev sys; do mount --rbind "/$each" "$folder/root/$each"; done
mkdir -p "$folder/root$shared" "$folder/root/run/sshd"
mount --bind "$shared" "$folder/root$shared"
exec chroot "$folder/root" /usr/sbin/sshd "$@"
"""


def keygen(path: Path) -> str:
    """Make a key pair, and return the public one as known_hosts and authorized_keys have it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    folder: Path, settings: str, shared: Path, *, own_network: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """An sshd with the keys ``host`` and ``id`` in ``folder``, where its log is, too, and with ``settings`` besides.

    ``shared`` is at the same place inside. In an ``own_network`` it can listen on any address and port, and only who
    enters that reaches it.
    """
    (folder / "authorized").write_text(f"{keygen(folder / 'id')}\n")
    keygen(folder / "host")
    (folder / "config").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"SetEnv HOME={folder}\n"  # what root's own start-up files do is not to be tested
        f"{settings}"
    )
    log = folder / "sshd.log"
    log.touch()
    (folder / "overlay").mkdir()
    places = [str(ensure_image("node", Silent()).path), str(folder / "overlay"), str(shared)]
    argv = ["-D", "-f", str(folder / "config"), "-E", str(log)]
    spaces = ["--mount", "--propagation", "private", *(["--net"] if own_network else [])]
    process = subprocess.Popen(["unshare", *spaces, "sh", "-c", IN_THE_IMAGE, "sh", *places, *argv])
    try:
        wait_for(lambda: "Server listening" in log.read_text(), within=10, what="listening")
        yield process
    finally:
        process.terminate()
        process.wait(10)
