"""The nspawn driver: a cluster of systemd-nspawn machines on this host, up in seconds, with no hypervisor."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.fingerprint import fingerprint
from pytest_ai_how.drivers.machines.network import check_network, host_links, host_routes
from pytest_ai_how.drivers.nspawn.cgroups import read_cgroups
from pytest_ai_how.drivers.nspawn.host import check_config, check_room, check_tools, userns_absent
from pytest_ai_how.drivers.protocol import HostFacts, State
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.lease import JOURNAL
from pytest_ai_how.lease.state import cluster_state
from pytest_ai_how.transport.protocol import Transport

if TYPE_CHECKING:
    from pytest_ai_how.drivers.machines.reality import Shape
    from pytest_ai_how.drivers.machines.render import File

# Below a cluster's machines: what was put in before boot lies in the nodes' own layers.
_SECRETS = (
    "keys/id_ed25519",
    "nodes/*/upper/etc/munge/munge.key",
    "nodes/*/upper/etc/ssh/ssh_host_ed25519_key",
    "nodes/*/upper/home/*/.ssh/id_ed25519",
)
_UNABLE = {
    "beegfs": "systemd-nspawn machines share this host's kernel, which has no BeeGFS client",
    "kernel.own": "systemd-nspawn machines run on this host's kernel",
    "hardware.own": "systemd-nspawn machines see the CPUs, the memory and the file system of this host",
    "hypervisor": "systemd-nspawn has none",
    "virtiofs": "needs a virtual machine",
}


class NspawnDriver:
    """Makes machines with systemd-nspawn. ``image(name)`` returns an image's path, ``digest(name)`` its digest.

    ``notes`` are told with what this host offers.
    """

    name = "nspawn"

    def __init__(self, image: Callable[[str], Path], digest: Callable[[str], str], notes: tuple[str, ...] = ()) -> None:
        self._image, self._digest, self._notes = image, digest, notes

    def check(self, config: ClusterConfig) -> None:
        """Refuse, before anything is made, what cannot work here; see :class:`~pytest_ai_how.drivers.Driver`."""
        check_tools()
        network = check_config(config)
        check_network(network, config.name, host_links(), host_routes())
        state = cluster_state(config.name)
        existing = next(path for path in (state, *state.parents) if path.exists())
        check_room(config, state, Path("/proc/meminfo").read_text(), shutil.disk_usage(existing).free)

    def facts(self) -> HostFacts:
        """The host's kernel and cgroups, and what jobs on it can't be confined by."""
        cgroups = read_cgroups()
        notes = [f"kernel {os.uname().release}", f"cgroup {cgroups.mode}, Slurm's plug-in {cgroups.plugin}"]
        if cgroups.mode == "v2":
            notes.append("device confinement through eBPF is assumed, not probed")
        return HostFacts(self.name, (*self._notes, *notes), _UNABLE | cgroups.absent() | userns_absent())

    def fingerprint(self, config: ClusterConfig) -> str:
        """A digest of configuration, images and templates."""
        return fingerprint(config, {name: self._digest(name) for name in ("node", *self._containers(config))})

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Make all machines and return when sshd answers on each.

        The shared directory, with the registry's images, is complete by then. Raises :class:`ProvisionError` naming
        the machine; what was made so far is in the journal.
        """
        # All that only the making of machines needs: attaching to a kept cluster is to be quick.
        from pytest_ai_how.drivers.nspawn.build import Build

        image = self._image("node")
        containers = {name: self._image(name) for name in self._containers(config)}
        state = cluster_state(config.name)
        journal.intend("directory", path=str(state / "machines"))
        (state / "machines").mkdir(mode=0o700)
        build = Build(config, state / "machines", journal, image, read_cgroups())
        build.network()
        build.run(containers)

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        """A transport to ``node`` as root, with the host key that was made for it."""
        from pytest_ai_how.transport.ssh import SshTransport

        address = next(str(each.address) for each in config.nodes if each.name == node)
        keys = cluster_state(config.name) / "machines" / "keys"
        return SshTransport(node, address, 22, "root", keys / "id_ed25519", keys / "known_hosts")

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:
        """The munge key and the private halves of all key pairs; empty before :meth:`up`."""
        machines = cluster_state(config.name) / "machines"
        found = {path.read_bytes() for pattern in _SECRETS for path in machines.glob(pattern)}
        return tuple(sorted(found))

    def state(self, config: ClusterConfig, node: str) -> State:
        """Whether the machine runs, by the kernel's list of processes and mounts; see :class:`.protocol.Power`."""
        from pytest_ai_how.drivers.nspawn.power import machine, state

        return state(machine(config, node))

    def stop(self, config: ClusterConfig, node: str, *, force: bool = False, within: float = 60.0) -> None:
        """Switch the machine off: its init is asked by systemd's own signal before it is cut off."""
        from pytest_ai_how.drivers.nspawn.power import machine, switch_off

        switch_off(machine(config, node), force=force, within=within)

    def start(self, config: ClusterConfig, node: str) -> None:
        """Boot the machine again, over the overlay that it had."""
        from pytest_ai_how.drivers.nspawn.power import machine, switch_on

        state = cluster_state(config.name)
        switch_on(machine(config, node), state / "machines" / "shared", Journal(state / JOURNAL))

    def consoles(self, config: ClusterConfig) -> Mapping[str, Path]:
        """The console's log of each machine that was started."""
        from pytest_ai_how.drivers.nspawn.power import machine

        found = {node.name: machine(config, node.name).console for node in config.nodes}
        return {name: path for name, path in found.items() if path.exists()}

    def shape(self, config: ClusterConfig, node: str) -> Shape:
        """What the machine is made of, as the kernel tells it; see :class:`.machines.reality.Reality`."""
        from pytest_ai_how.drivers.nspawn import power, reality

        return reality.shape(power.machine(config, node))

    def files(self, config: ClusterConfig, node: str) -> tuple[File, ...]:
        """What the machine is to hold, rendered anew."""
        from pytest_ai_how.drivers.nspawn import power, reality

        return reality.files(power.machine(config, node), cluster_state(config.name) / "machines" / "keys")

    @staticmethod
    def _containers(config: ClusterConfig) -> tuple[str, ...]:
        wanted = config.containers.runtime != "none" and config.storage.kind == "host-directory"
        return config.containers.images if wanted else ()
