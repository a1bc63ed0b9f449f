"""The making of one cluster's virtual machines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig, NodeConfig, VirtiofsMount
from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.drivers.libvirt import api, daemon
from pytest_ai_how.drivers.libvirt.disks import make_layer
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.libvirt.names import machine_mark
from pytest_ai_how.drivers.libvirt.seed import mount_points, seed, write_initrd
from pytest_ai_how.drivers.libvirt.virtiofs import check_sources, mounts_of
from pytest_ai_how.drivers.libvirt.warm import Warm
from pytest_ai_how.drivers.libvirt.xml import DomainXml, Files, Filesystem, Hypervisor, network_xml
from pytest_ai_how.drivers.machines.accounts import read_accounts
from pytest_ai_how.drivers.machines.boot import await_ssh
from pytest_ai_how.drivers.machines.identity import Identity, load_identity, make_identity, write_keys
from pytest_ai_how.drivers.machines.network import make_bridge
from pytest_ai_how.drivers.machines.render import Confinement, Renderer
from pytest_ai_how.drivers.machines.shared import deploy_images, lay_out
from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.disk import ACCOUNTS
from pytest_ai_how.image.host import as_root
from pytest_ai_how.image.store import load
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.pci import claiming
from pytest_ai_how.shell import quote

# Seconds. Emulated, three machines answer after 25 on two idle cores; with seven others at work there, after 150.
_BOOT = {True: 90.0, False: 400.0}
# MiB that a guest's own kernel and daemons have taken of 1024: 57 and 176 (Linux 6.12, Debian 13).
_GUEST_OWN = 256
# Seconds: Slurm's own default. Emulated guests need it.
_ANSWER_WITHIN = 10
# A bridge of libvirt's own comes with firewall rules, for which it runs programs that a daemon alone does not bring.
_BRIDGE_CURE = (
    "if it lacks programs or folders, apt-get install libvirt-daemon-system iptables and systemctl restart libvirtd; "
    "or run the same command as root, whose bridge needs neither"
)
#: Guests have a kernel of their own with control groups version 2, and nothing else uses them.
CONFINEMENT = Confinement("cgroup/v2", {})
#: The names of an image's parts in its folder.
DISK, KERNEL, INITRD = "disk.qcow2", "vmlinuz", "initrd.cpio"


@dataclass(frozen=True, slots=True)
class Images:
    """What machines are made of: the image's folder, the folder with its accounts' ``etc``, and container images.

    ``warm`` is what they continue from in place of a boot.
    """

    machine: Path
    root: Path
    containers: Mapping[str, Path]
    warm: Warm | None = None


def accounts_of(machine: Path, node: Callable[[], Path], packages: PackageSource | None) -> Path:
    """The folder whose ``etc`` has the accounts of the image in ``machine``.

    Images of earlier have none of their own: ``node`` gives the tree that they were made of, which only root can read.
    Raises :class:`ImageError` for anybody else.
    """
    if all((machine / name).is_file() for name in ACCOUNTS):
        return machine
    if os.geteuid() != 0:
        folder = machine.parent
        again = as_root(folder.parent, [load(folder).name], cluster=packages is not None)
        raise ImageError(
            str(machine),
            f"holds no accounts, like all earlier images, and uid {os.geteuid()} can't read those of the node image",
            expected=", ".join(ACCOUNTS),
            cure=f"{quote(['sudo', 'rm', '-r', str(folder)])} && {again}",
        )
    return node()


class Build:
    """The making of one cluster's machines in ``folder``."""

    def __init__(
        self,
        config: ClusterConfig,
        folder: Path,
        journal: Journal,
        images: Images,
        hypervisor: Hypervisor,
        chosen: str,
    ) -> None:
        self.config, self.folder, self.journal, self.images = config, folder, journal, images
        self.hypervisor, self.daemon = hypervisor, chosen
        names = (node.name for node in config.nodes)
        self.identity = load_identity(images.warm.keys) if images.warm else make_identity(names)
        self.accounts = read_accounts(images.root, config.user)
        self.shared = folder / "shared"
        self.renderer = renderer(config, self.identity, self.shared)
        self._abandoned = threading.Event()
        self.machines = [Machine(config, node, folder / "nodes" / node.name) for node in config.nodes]

    def run(self) -> None:
        """Make the machines, start them, fill the shared directory beside that, and wait for both.

        Machines that continue are not waited for.
        """
        write_keys(self.folder / "keys", self.identity, self.renderer.shared_text("known_hosts.j2"))
        registry = lay_out(self.config, self.shared, self.accounts)
        with ThreadPoolExecutor(len(self.machines) + 1) as pool:
            furnished = [pool.submit(self._furnish, machine) for machine in self.machines]
            with api.connected(daemon.address(self.config.name, self.daemon)) as connection:
                self._network(connection)
                _results(furnished)
                for machine in self.machines:
                    self._define(machine, connection)
                starting = [machine for machine in self.machines if machine.node.auto_start]
                _results([pool.submit(self._start, machine, connection) for machine in starting])
                deadline = Deadline(_BOOT[self.hypervisor.kvm])
                # Those that continue are logged in to next, which a banner before would only delay.
                booting = [] if self.images.warm else starting
                waits = [pool.submit(self._await, machine, connection, deadline) for machine in booting]
                if registry:
                    group = self.accounts.owner("slurm")[1]
                    waits.append(pool.submit(deploy_images, registry, self.images.containers, group))
                try:
                    _results(waits)
                except BaseException:
                    # One that failed, or an interrupt, does not wait for the boot of the others.
                    self._abandoned.set()
                    raise

    def _network(self, connection: api.Connection) -> None:
        network, own = self.config.network, os.geteuid() == 0
        assert network is not None, "checked by LibvirtDriver.check"
        if own:
            # Of our own: libvirt would switch on forwarding for the whole host, or write firewall rules.
            self.journal.intend("bridge", name=network.bridge, cookie=cookie(self.config.name))
            make_bridge(network, self.config.name)
        self.journal.intend("libvirt-network", cluster=self.config.name, daemon=self.daemon)
        make_network(self.config, connection, own_bridge=own)

    def _furnish(self, machine: Machine) -> None:
        """Make the machine's files."""
        machine.folder.mkdir(parents=True)
        # The daemon's log service would make it root's; what is there it appends to.
        machine.console.touch(mode=0o600)
        if self.images.warm and machine.node.auto_start:
            self.images.warm.copy_to(machine)
            return
        make_layer(machine.node.name, self.images.machine / DISK, machine.disk, machine.node.disk)
        entries = mount_points(self._mounts(machine.node), self.accounts)
        entries |= seed(self.images.root, self.config.user, self.accounts, self.renderer.files(machine.node))
        write_initrd(machine.initrd, self.images.machine / INITRD, entries)

    def _define(self, machine: Machine, connection: api.Connection) -> None:
        files = Files(self.images.machine / KERNEL, machine.initrd, machine.disk, machine.console)
        filesystems = [Filesystem(mount.tag, Path(mount.source)) for mount in self._mounts(machine.node)]
        self.journal.intend(
            "domain", cluster=self.config.name, node=machine.node.name, daemon=self.daemon, name=machine.name
        )
        with api.naming(machine.node.name, "libvirt does not take its definition"):
            connection.defineXML(DomainXml(self.config, self.hypervisor).of(machine.node, files, filesystems))

    def _start(self, machine: Machine, connection: api.Connection) -> None:
        switch_on(machine, connection, self.journal, self.images.warm)

    def _await(self, machine: Machine, connection: api.Connection, within: Deadline) -> None:
        def ended() -> str:
            if self._abandoned.is_set():
                return "the bring-up was given up"
            return "" if machine.state(connection) == "running" else "the machine ended while it booted"

        await_ssh(machine.node, machine.console, ended, within, every=0.1)

    def _mounts(self, node: NodeConfig) -> tuple[VirtiofsMount, ...]:
        return mounts_of(self.config, node, self.shared)


def make_network(config: ClusterConfig, connection: api.Connection, *, own_bridge: bool) -> None:
    """Have libvirt make the cluster's network, over a bridge of our own or with one. Raises :class:`ProvisionError`."""
    cure = "see what libvirt says to it" if own_bridge else _BRIDGE_CURE
    with api.naming(f"network of {config.name}", "libvirt does not make it", cure):
        connection.networkDefineXML(network_xml(config, own_bridge=own_bridge)).create()


def renderer(config: ClusterConfig, identity: Identity, shared: Path) -> Renderer:
    """Renders the files of a cluster's virtual machines, whose shared directory is ``shared`` on this host."""
    return Renderer(
        config,
        identity,
        CONFINEMENT,
        mounts=lambda node: mounts_of(config, node, shared),
        kept_back=_GUEST_OWN,
        answer_within=_ANSWER_WITHIN,
    )


def switch_on(machine: Machine, connection: api.Connection, journal: Journal, warm: Warm | None = None) -> None:
    """Boot a machine that is off, or continue it. Its devices are claimed and its process written down before that.

    Raises :class:`~pytest_ai_how.errors.ProvisionError` with the path of a directory to mount that is gone.
    """
    check_sources([machine.node])
    mark = machine_mark(machine.config.name, machine.node.name)
    with claiming(machine.config, machine.node, journal):
        if not any(entry.kind == "process" and entry.data["cookie"] == mark for entry in journal.pending()):
            journal.intend("process", cookie=mark)
        if warm:
            warm.restore(machine, connection)
        else:
            machine.switch_on(connection)


def _results(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        future.result()
