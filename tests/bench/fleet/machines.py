"""Many machines to be reached over ssh that are one: an sshd in a network of its own, which has all their addresses."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tests.sshd import serving

_FIRST = IPv4Address("127.0.64.1")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines' addresses by name, the files to reach them by, and the command that enters their network."""

    folder: Path
    addresses: dict[str, str]
    enter: tuple[str, ...]

    @property
    def cluster(self) -> Path:
        """The YAML of them, as a site that exists already."""
        path = self.folder / "fleet.yaml"
        nodes = "".join(
            f"  - {{name: {name}, roles: [{'controller' if not number else 'compute'}], address: {address}}}\n"
            for number, (name, address) in enumerate(self.addresses.items())
        )
        path.write_text(
            "version: 1\nname: bench-fleet\ndriver: ssh\n"
            f"ssh: {{user: root, key: {self.folder}/id, known_hosts: {self.folder}/known_hosts}}\n"
            f"nodes:\n{nodes}"
            "storage: {kind: none}\ncontainers: {runtime: none}\nabsent: [slurm, accounting]\n"
        )
        return path

    @property
    def ssh_config(self) -> Path:
        """The settings of OpenSSH's client: as strict as ours, with connections that are kept."""
        path = self.folder / "ssh_config"
        path.write_text(
            f"User root\nIdentityFile {self.folder}/id\nIdentitiesOnly yes\nBatchMode yes\n"
            f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
            f"ControlMaster auto\nControlPath {self.folder}/control-%h\nControlPersist 60\n"
        )
        return path

    def some(self, count: int) -> Sequence[str]:
        """The addresses of the first of them."""
        return list(self.addresses.values())[:count]


@contextmanager
def fleet(count: int) -> Iterator[Fleet]:
    """``count`` machines, each with a host key in known_hosts."""
    folder = Path(tempfile.mkdtemp(prefix="ai-how-fleet-"))
    addresses = {f"node{number:03}": str(_FIRST + number) for number in range(count)}
    settings = "ListenAddress 0.0.0.0\nPort 22\nMaxStartups 1000\n"
    try:
        with serving(folder, settings, folder, own_network=True) as process:
            host = " ".join((folder / "host.pub").read_text().split()[:2])
            (folder / "known_hosts").write_text("".join(f"{one} {host}\n" for one in addresses.values()))
            yield Fleet(folder, addresses, ("nsenter", f"--net=/proc/{process.pid}/ns/net"))
    finally:
        shutil.rmtree(folder)
