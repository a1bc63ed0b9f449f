"""What a cluster's machines hold beyond the image: configuration rendered from the YAML, keys and accounts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pytest_ai_how.assets import asset
from pytest_ai_how.config.models import ClusterConfig, NodeConfig, VirtiofsMount
from pytest_ai_how.drivers.machines.beegfs import beegfs_files, beegfs_names
from pytest_ai_how.drivers.machines.identity import Identity
from pytest_ai_how.drivers.machines.monitoring import monitoring_files, monitoring_names

# Linux keeps 240 to 254 for local and experimental character devices (Documentation/admin-guide/devices.txt): nobody
# is behind these, so opening one says ENXIO when a job may and EPERM when it may not.
FAKE_GPU_MAJOR = 240
# The share of a node's memory that Slurm may give to jobs; the rest is for the node's own daemons.
_JOB_SHARE = 0.95
# What a kernel of the node's own keeps of its memory, and MemTotal lacks: the pages' records (64 bytes for each 4 KiB,
# 1.6 %) and itself. Of 1024 MiB 57 were gone with Linux 6.12, so that 64 more than the share is on the safe side.
_KERNEL_SHARE, _KERNEL_LEAST = 0.02, 64
#: The account of the image (role ``admin``) that becomes root by sudo.
ADMIN = "ai-how"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a machine. ``owner`` is an account of the image, or the cluster's job user."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root"


@dataclass(frozen=True, slots=True)
class Confinement:
    """How Slurm can confine jobs on the machines: its ``CgroupPlugin``, and why each missing capability is absent."""

    plugin: str
    absent: Mapping[str, str]


def no_mounts(node: NodeConfig) -> Sequence[VirtiofsMount]:  # noqa: ARG001  the same for all nodes
    """What containers mount by virtiofs."""
    return ()


def own_numbers(node: NodeConfig) -> range:
    """The numbers of a machine's GPUs where it has no other machine's kernel."""
    return range(node.gpus.count if node.gpus else 0)


@dataclass(frozen=True, slots=True)
class Renderer:
    """Renders the files of each node of one cluster.

    ``mounts`` is what a node mounts by virtiofs, ``kept_back`` the MiB of memory that no job may have where each node
    has a kernel of its own (0: where they share the host's), ``numbers`` those of its GPUs, which are consecutive,
    and ``answer_within`` the seconds that Slurm's daemons give each other.
    """

    config: ClusterConfig
    identity: Identity
    confinement: Confinement
    mounts: Callable[[NodeConfig], Sequence[VirtiofsMount]] = no_mounts
    kept_back: int = 0
    numbers: Callable[[NodeConfig], range] = own_numbers
    answer_within: int = 5

    def files(self, node: NodeConfig) -> Iterator[File]:
        """All files of ``node``, secrets with their modes."""
        yield from self._system(node)
        yield from self._ssh(node)
        if self.config.slurm:
            yield from self._slurm(node)
        beegfs = beegfs_files(self.config, node, self.identity.beegfs, lambda template: self._text(template, node))
        yield from (File(path, content, mode) for path, content, mode in beegfs)
        monitoring = monitoring_files(self.config, node, lambda template: self._text(template, node))
        yield from (File(path, content, mode) for path, content, mode in monitoring)

    def shared_text(self, template: str) -> str:
        """A file that is the same on all nodes."""
        return self._text(template)

    def _system(self, node: NodeConfig) -> Iterator[File]:
        yield File("/etc/hostname", f"{node.name}\n".encode())
        # With one of its own a node's boot is no first boot, on which systemd would enable every unit there is.
        # Of the host key, so that it is another with each making and the same with each rendering; nobody can tell it.
        number = hashlib.sha256(b"machine-id" + self.identity.hosts[node.name].private).hexdigest()[:32]
        yield File("/etc/machine-id", f"{number}\n".encode(), 0o444)
        yield File("/etc/hosts", self._text("hosts.j2").encode())
        yield File("/etc/systemd/network/10-host0.network", self._text("host0.network.j2", node).encode())
        yield File("/etc/fstab", self._text("fstab.j2", node).encode())
        yield File("/etc/default/registry-path", self._text("registry-path.j2").encode())
        if node.gpus and node.gpus.kind == "simulated":
            lines = (f"c /dev/fakegpu{i} 0666 root root - {FAKE_GPU_MAJOR}:{i}\n" for i in range(node.gpus.count))
            yield File("/etc/tmpfiles.d/ai-how-gpus.conf", "".join(lines).encode())

    def _ssh(self, node: NodeConfig) -> Iterator[File]:
        host, user = self.identity.hosts[node.name], self.config.user
        yield File("/etc/ssh/ssh_host_ed25519_key", host.private, 0o600)
        yield File("/etc/ssh/ssh_host_ed25519_key.pub", f"{host.public}\n".encode())
        yield File("/etc/ssh/ssh_known_hosts", self._text("known_hosts.j2").encode())
        client, between = self.identity.client.public, self.identity.user
        yield File("/root/.ssh/authorized_keys", f"{client}\n".encode(), 0o600)
        home = f"/home/{user}/.ssh"
        yield File(f"{home}/authorized_keys", f"{client}\n{between.public}\n".encode(), 0o600, user)
        yield File(f"/home/{ADMIN}/.ssh/authorized_keys", f"{client}\n".encode(), 0o600, ADMIN)
        yield File(f"{home}/id_ed25519", between.private, 0o600, user)
        yield File(f"{home}/id_ed25519.pub", f"{between.public}\n".encode(), 0o644, user)

    def _slurm(self, node: NodeConfig) -> Iterator[File]:
        yield File("/etc/munge/munge.key", self.identity.munge, 0o400, "munge")
        yield File("/etc/slurm/slurm.conf", self._text("slurm.conf.j2").encode())
        yield File("/etc/slurm/cgroup.conf", self._text("cgroup.conf.j2").encode())
        if node.gpus:
            yield File("/etc/slurm/gres.conf", self._text("gres.conf.j2", node).encode())
        slurm = self.config.slurm
        if slurm and slurm.accounting and "controller" in node.roles:
            yield File("/etc/slurm/slurmdbd.conf", self._text("slurmdbd.conf.j2").encode(), 0o600, "slurm")
            yield File("/etc/ai-how/accounts", f"{slurm.cluster} {slurm.account} {self.config.user}\n".encode())

    def _memory(self, node: NodeConfig) -> tuple[int, int]:
        """RealMemory and MemSpecLimit (MiB): what slurmd finds there, at least, and what of it is not for jobs."""
        for_jobs = int(min(node.memory * _JOB_SHARE, node.memory - self.kept_back))
        if not self.kept_back:
            return for_jobs, 0
        found = int(node.memory * (1 - _KERNEL_SHARE)) - _KERNEL_LEAST
        return found, found - for_jobs

    def _text(self, template: str, node: NodeConfig | None = None) -> str:
        config, absent = self.config, self.confinement.absent
        return (
            environment()
            .get_template(template)
            .render(
                nodes=config.nodes,
                compute=config.on("compute"),
                controller=config.controller,
                slurm=config.slurm,
                network=config.network,
                storage=config.storage,
                registry=config.registry,
                containers=config.containers,
                node=node,
                numbers=self.numbers(node) if node else range(0),
                mounts=self.mounts(node) if node else (),
                memory={each.name: self._memory(each) for each in config.nodes},
                host_keys={name: pair.public for name, pair in self.identity.hosts.items()},
                plugin=self.confinement.plugin,
                answer_within=self.answer_within,
                confines={capability: capability not in absent for capability in _CONFINES},
                **beegfs_names(config),
                **monitoring_names(config),
            )
        )


_CONFINES = ("cgroup.cpu", "cgroup.memory", "cgroup.devices")


def environment() -> Environment:
    """The templates of ``provisioning/templates``; a name that is not given is an error, never an empty string."""
    return Environment(
        loader=FileSystemLoader(asset("provisioning/templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  these are configuration files, not HTML; every value has a pattern in the models
    )
