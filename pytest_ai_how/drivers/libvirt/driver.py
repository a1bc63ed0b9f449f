"""The libvirt driver: a cluster of virtual machines on this host, each with its own kernel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.config.models import ClusterConfig, NodeConfig, VirtiofsMount
from pytest_ai_how.config.storage import PackageSource
from pytest_ai_how.drivers.libvirt import api, daemon
from pytest_ai_how.drivers.libvirt.machine import Machine
from pytest_ai_how.drivers.libvirt.xml import Hypervisor, Label, board_of
from pytest_ai_how.drivers.machines.fingerprint import fingerprint
from pytest_ai_how.drivers.protocol import HostFacts, State
from pytest_ai_how.errors import AiHowError, ProvisionError
from pytest_ai_how.image.needed import disk_image, origin
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.lease import JOURNAL
from pytest_ai_how.lease.state import cluster_state
from pytest_ai_how.node import Node
from pytest_ai_how.transport.protocol import Transport

if TYPE_CHECKING:
    from pytest_ai_how.drivers.libvirt.warm import Warm
    from pytest_ai_how.drivers.machines.reality import Shape
    from pytest_ai_how.drivers.machines.render import File
    from pytest_ai_how.transport.ssh import SshTransport

ImagePath = Callable[[str, PackageSource | None], Path]
ImageDigest = Callable[[str, PackageSource | None], str]

_POWER_OFF_SECONDS = 10.0
# Measured on two cores beside seven others: Slurm, ready in 3 s in containers, takes 75 in three emulated machines.
_EMULATED_PACE = 4.0
_DAEMON_FILE = "daemon"


class LibvirtDriver:
    """Makes virtual machines. ``image`` returns an image's path, ``digest`` its digest; both are told where packages
    come from that Debian lacks. ``no_kvm`` says why machines are emulated; empty where KVM boots them.
    ``unprobed`` says why that is not known, and then nobody asks for it.
    """

    name = "libvirt"

    def __init__(
        self,
        image: ImagePath,
        digest: ImageDigest,
        no_kvm: Callable[[], str],
        unprobed: Callable[[], str] = lambda: "",
    ) -> None:
        self._image, self._digest, self._no_kvm, self._unprobed = image, digest, no_kvm, unprobed
        # What set the clocks of machines that continued, for the first who asks.
        self._reached: dict[tuple[str, str], Transport] = {}

    @property
    def pace(self) -> float:
        """See :class:`.protocol.Paced`."""
        return _EMULATED_PACE if self._no_kvm() else 1.0

    def check(self, config: ClusterConfig) -> None:
        """Refuse, before anything is made, what cannot work here; see :class:`~pytest_ai_how.drivers.Driver`."""
        from pytest_ai_how.drivers.libvirt import host

        chosen = daemon.chosen_daemon()
        host.check_tools(chosen)
        for look in host.looks(config, chosen, self._no_kvm):
            look()

    def refusals(self, config: ClusterConfig) -> tuple[AiHowError, ...]:
        """All that :meth:`check` would refuse."""
        from pytest_ai_how.drivers.libvirt import host

        found: list[AiHowError] = []
        try:
            chosen = daemon.chosen_daemon()
            host.check_tools(chosen)
            looks = host.looks(config, chosen, self._no_kvm)
        except AiHowError as error:
            found.append(error)
            looks = host.looks_without_tools(config)
        for look in looks:
            try:
                look()
            except AiHowError as error:
                found.append(error)
        return tuple(found)

    def facts(self) -> HostFacts:
        """Which libvirt there is, and whether machines run by KVM or are emulated."""
        from pytest_ai_how.drivers.libvirt.virtiofs import virtiofsd

        unknown = self._unprobed()
        why = "" if unknown else self._no_kvm()
        kind = f"machines are emulated (TCG): {why}" if why else unknown or "machines run by KVM"
        found = daemon.running_daemon()
        notes = (kind, f"libvirt at {found}" if found else "a libvirt daemon of our own")
        absent = {} if virtiofsd() else {"virtiofs": "this host has no program virtiofsd"}
        absent |= {"cpus.native": kind} if why else {}
        return HostFacts(self.name, notes, absent)

    def fingerprint(self, config: ClusterConfig) -> str:
        """A digest of configuration, images and templates."""
        names = (disk_image(config), *containers_of(config))
        return fingerprint(config, {name: self._digest(name, origin(config)) for name in names})

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Make all machines and return when sshd answers on each that is to start.

        The shared directory, with the registry's images, is complete by then. Raises :class:`ProvisionError` naming
        the machine; what was made so far is in the journal.
        """
        from pytest_ai_how.drivers.libvirt.build import Build, Images, accounts_of
        from pytest_ai_how.drivers.libvirt.warm import go_on

        packages = origin(config)
        containers = {name: self._image(name, packages) for name in containers_of(config)}
        kept = self._warm(config) if config.bringup == "restore" else None
        warm = kept if kept and kept.is_kept else None
        machine = self._image(disk_image(config), packages)
        images = Images(
            machine, accounts_of(machine, lambda: self._image("node", packages), packages), containers, warm
        )
        machines = _folder(config)
        journal.intend("directory", path=str(machines))
        machines.mkdir(mode=0o700)
        chosen = daemon.chosen_daemon()
        (machines / _DAEMON_FILE).write_text(chosen)
        if chosen == daemon.PRIVATE:
            daemon.start_private(config.name, journal, {node.hugepages for node in config.nodes if node.hugepages})
        Build(config, machines, journal, images, self._hypervisor(config.name, chosen), chosen).run()
        if warm:
            running = self._logins(config)
            go_on(running)
            self._reached = {(config.name, name): transport for name, transport in running.items()}

    def is_warm(self, config: ClusterConfig) -> bool:
        """Whether machines that were ready are kept; see :class:`.protocol.Warms`."""
        return config.bringup == "restore" and self._warm(config).is_kept

    def keep_warm(self, config: ClusterConfig) -> None:
        """Keep the machines as they are; see :class:`.protocol.Warms`."""
        from pytest_ai_how.drivers.libvirt.warm import go_on, keep, stand_still

        machines = [_machine(config, node.name) for node in config.nodes if node.auto_start]
        logins = self._logins(config)
        try:
            with api.connected(_address(config)) as connection:
                stand_still(logins)
                keep(self._warm(config), _folder(config) / "keys", machines, connection)
        finally:
            go_on(logins)
            for login in logins.values():
                login.close()

    def deploy(self, config: ClusterConfig, controller: Node) -> None:
        """Put the container images onto BeeGFS; a directory of this host has them before the machines boot."""
        from pytest_ai_how.drivers.machines.deploy import deploy_over

        if config.storage.kind == "beegfs":
            packages = origin(config)
            deploy_over(controller, config.registry, {one: self._image(one, packages) for one in containers_of(config)})

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        """A transport to ``node`` as root, with the host key that was made for it."""
        # To log in takes an emulated machine two seconds of CPU.
        return self._reached.pop((config.name, node), None) or _login(config, _node(config, node))

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        """The keys that daemons authenticate with and the private halves of all key pairs; empty before :meth:`up`."""
        from pytest_ai_how.drivers.machines.identity import load_identity

        keys = _folder(config) / "keys"
        if not (keys / "identity.json").exists():
            return ()
        known = load_identity(keys)
        pairs = (known.client, known.user, *known.hosts.values())
        return tuple(sorted({known.munge, known.beegfs, *(pair.private for pair in pairs)}))

    def state(self, config: ClusterConfig, node: str) -> State:
        """Whether the machine runs, by libvirt; see :class:`.protocol.Power`."""
        machine = _machine(config, node)
        if not (_folder(config) / _DAEMON_FILE).exists():
            return "absent"
        with api.connected(_address(config)) as connection:
            return machine.state(connection)

    def stop(self, config: ClusterConfig, node: str, *, force: bool = False, within: float = 60.0) -> None:
        """Switch the machine off: its init is asked over ssh, or by the power button, before it is cut off."""
        from pytest_ai_how.pci import release

        machine = _machine(config, node)
        with api.connected(_address(config)) as connection:
            machine.switch_off(connection, lambda: self._power_off(config, node), force=force, within=within)
        release(config, machine.node, Journal(cluster_state(config.name) / JOURNAL))

    def start(self, config: ClusterConfig, node: str) -> None:
        """Boot the machine again, with the disk that it had."""
        from pytest_ai_how.drivers.libvirt.build import switch_on
        from pytest_ai_how.pci import check_machine

        machine, journal = _machine(config, node), Journal(cluster_state(config.name) / JOURNAL)
        made = [entry for entry in journal.pending() if entry.kind == "domain" and entry.data["node"] == node]
        check_machine(config, machine.node)
        with api.connected(_address(config)) as connection:
            switch_on(machine, connection, journal.of(made[0].step if made else ""))

    def consoles(self, config: ClusterConfig) -> Mapping[str, Path]:
        """The console's log of each machine that was made."""
        found = {node.name: _machine(config, node.name).console for node in config.nodes}
        return {name: path for name, path in found.items() if path.exists()}

    def mounts(self, config: ClusterConfig, node: str) -> tuple[VirtiofsMount, ...]:
        """The directories of this host that the machine mounts by virtiofs; see :class:`.protocol.Directories`."""
        from pytest_ai_how.drivers.libvirt.virtiofs import mounts_of

        return mounts_of(config, _node(config, node), _folder(config) / "shared")

    def shape(self, config: ClusterConfig, node: str) -> Shape:
        """What the machine is made of, as libvirt tells it; see :class:`.machines.reality.Reality`."""
        from pytest_ai_how.drivers.libvirt.reality import shape

        machine = _machine(config, node)
        with api.connected(_address(config)) as connection:
            return shape(machine, machine.existing(connection))

    def definition(self, config: ClusterConfig, node: str) -> str:
        """The machine's live definition; see :class:`.protocol.Defines`."""
        with api.connected(_address(config)) as connection:
            return str(_machine(config, node).existing(connection).XMLDesc())

    def files(self, config: ClusterConfig, node: str) -> tuple[File, ...]:
        """What the machine is to hold, rendered anew."""
        from pytest_ai_how.drivers.libvirt.reality import files

        return files(_machine(config, node), _folder(config))

    def _logins(self, config: ClusterConfig) -> dict[str, SshTransport]:
        return {node.name: _login(config, node) for node in config.nodes if node.auto_start}

    def _warm(self, config: ClusterConfig) -> Warm:
        from pytest_ai_how.drivers.libvirt.host import EMULATOR
        from pytest_ai_how.drivers.libvirt.warm import host_versions, warm_of

        versions = (not self._no_kvm(), *host_versions(EMULATOR))
        return warm_of(config.name, _folder(config), self.fingerprint(config), versions)

    def _power_off(self, config: ClusterConfig, node: str) -> None:
        transport = self.transport(config, node)
        try:
            transport.execute(("systemctl", "poweroff", "--no-block"), timeout=_POWER_OFF_SECONDS)
        finally:
            transport.close()

    def _hypervisor(self, cluster: str, chosen: str) -> Hypervisor:
        from pytest_ai_how.drivers.libvirt.host import EMULATOR
        from pytest_ai_how.drivers.libvirt.kvm import emulator_version
        from pytest_ai_how.drivers.libvirt.virtiofs import direct, virtiofsd

        emulator = shutil.which(EMULATOR)
        assert emulator is not None, "checked by LibvirtDriver.check"
        labels: tuple[Label, ...] = ()
        serving = virtiofsd()
        if chosen == daemon.PRIVATE:
            serving = serving and direct(serving, cluster_state(cluster) / "machines")
        else:  # its security driver may let it start no program but virtiofsd itself
            with api.connected(daemon.address(cluster, chosen)) as connection:
                labels = labels_for(connection)
        board = board_of(emulator_version(emulator))
        return Hypervisor(Path(emulator), not self._no_kvm(), serving, labels, board)


def labels_for(connection: api.Connection) -> tuple[Label, ...]:
    """How a daemon that is not ours is to run our machines: as the owner of their files, which stay as they are."""
    model = str(connection.getSecurityModel()[0])
    confined = (Label(model),) if model not in ("", "none", "dac") else ()
    return (Label("dac", f"+{os.geteuid()}:+{os.getegid()}"), *confined)


def containers_of(config: ClusterConfig) -> tuple[str, ...]:
    """The container images that are put into the registry: before the machines boot, or onto BeeGFS when that runs."""
    wanted = config.containers.runtime != "none" and config.storage.kind in ("host-directory", "beegfs")
    return config.containers.images if wanted else ()


def _folder(config: ClusterConfig) -> Path:
    return cluster_state(config.name) / "machines"


def _node(config: ClusterConfig, name: str) -> NodeConfig:
    for node in config.nodes:
        if node.name == name:
            return node
    known = ", ".join(node.name for node in config.nodes)
    raise ProvisionError(name, f"is no machine of cluster {config.name!r}", expected=f"one of {known}")


def _login(config: ClusterConfig, node: NodeConfig) -> SshTransport:
    from pytest_ai_how.transport.ssh import SshTransport

    keys = _folder(config) / "keys"
    return SshTransport(node.name, str(node.address), 22, "root", keys / "id_ed25519", keys / "known_hosts")


def _machine(config: ClusterConfig, name: str) -> Machine:
    return Machine(config, _node(config, name), _folder(config) / "nodes" / name)


def _address(config: ClusterConfig) -> str:
    """The daemon that has the cluster's machines. Raises :class:`ProvisionError` when none was ever made."""
    try:
        chosen = (_folder(config) / _DAEMON_FILE).read_text()
    except FileNotFoundError as error:
        raise ProvisionError(
            config.name, "has no machines", expected="a cluster that is up", cure="pytest-ai-how up --cluster NAME"
        ) from error
    return daemon.address(config.name, chosen)
