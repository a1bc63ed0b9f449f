"""The nspawn driver: a cluster of systemd-nspawn machines on this host, up in seconds, with no hypervisor."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pytest_ai_how import __version__
from pytest_ai_how.assets import asset
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.drivers.machines.identity import Identity, make_identity, write_private
from pytest_ai_how.drivers.machines.network import check_network, host_links, host_routes, make_bridge
from pytest_ai_how.drivers.machines.render import Accounts, Confinement, Renderer, read_accounts
from pytest_ai_how.drivers.machines.shared import deploy_images, make_registry, make_shared
from pytest_ai_how.drivers.nspawn.cgroups import Cgroups, read_cgroups
from pytest_ai_how.drivers.nspawn.host import check_config, check_room, check_tools, userns_absent
from pytest_ai_how.drivers.nspawn.machine import Machine
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.state import cluster_state, cookie
from pytest_ai_how.transport.protocol import Transport

# A node answers after about a second; a loaded machine with two cores has taken ten.
_BOOT_SECONDS = 60.0
# Below a cluster's machines: what was put in before boot lies in the nodes' own layers.
_SECRETS = (
    "keys/id_ed25519",
    "nodes/*/upper/etc/munge/munge.key",
    "nodes/*/upper/etc/ssh/ssh_host_ed25519_key",
    "nodes/*/upper/home/*/.ssh/id_ed25519",
)
_UNABLE = {
    "beegfs": "systemd-nspawn machines share this host's kernel, which has no BeeGFS client",
    "virtiofs": "needs a virtual machine",
    "gpu.real": "systemd-nspawn machines get simulated GPUs only",
}


class NspawnDriver:
    """Makes machines with systemd-nspawn. ``image(name)`` returns an image's path, ``digest(name)`` its digest."""

    name = "nspawn"

    def __init__(self, image: Callable[[str], Path], digest: Callable[[str], str]) -> None:
        self._image, self._digest = image, digest

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
        return HostFacts(self.name, tuple(notes), _UNABLE | cgroups.absent() | userns_absent())

    def fingerprint(self, config: ClusterConfig) -> str:
        """A digest of configuration, images and templates."""
        digest = hashlib.sha256(__version__.encode())
        digest.update(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode())
        for name in ("node", *self._containers(config)):
            digest.update(f"{name}={self._digest(name)};".encode())
        for template in sorted(asset("provisioning/templates").iterdir()):
            digest.update(template.name.encode() + template.read_bytes())
        return digest.hexdigest()

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Make all machines and return when sshd answers on each.

        The shared directory, with the registry's images, is complete by then. Raises :class:`ProvisionError` naming
        the machine; what was made so far is in the journal.
        """
        image = self._image("node")
        containers = {name: self._image(name) for name in self._containers(config)}
        state = cluster_state(config.name)
        journal.intend("directory", path=str(state / "machines"))
        (state / "machines").mkdir(mode=0o700)
        build = _Build(config, state / "machines", journal, image, read_cgroups())
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

    @staticmethod
    def _containers(config: ClusterConfig) -> tuple[str, ...]:
        wanted = config.containers.runtime != "none" and config.storage.kind == "host-directory"
        return config.containers.images if wanted else ()


class _Build:
    """The making of one cluster's machines."""

    def __init__(self, config: ClusterConfig, folder: Path, journal: Journal, image: Path, cgroups: Cgroups) -> None:
        self.config, self.folder, self.journal, self.image, self.cgroups = config, folder, journal, image, cgroups
        self.identity: Identity = make_identity(node.name for node in config.nodes)
        self.accounts: Accounts = read_accounts(image, config.user)
        self.renderer = Renderer(config, self.identity, Confinement(cgroups.plugin, cgroups.absent()))

    def network(self) -> None:
        """Make the bridge and write the keys by which this host reaches the machines."""
        network = self.config.network
        assert network is not None, "checked by NspawnDriver.check"
        self.journal.intend("bridge", name=network.bridge, cookie=cookie(self.config.name))
        make_bridge(network, self.config.name)
        keys = self.folder / "keys"
        keys.mkdir(mode=0o700)
        write_private(keys / "id_ed25519", self.identity.client.private)
        write_private(keys / "known_hosts", self.renderer.shared_text("known_hosts.j2").encode())

    def run(self, containers: Mapping[str, Path]) -> None:
        """Start all machines, fill the shared directory beside that, and wait for both."""
        shared = self.folder / "shared"
        registry = self._shared(shared)
        machines = [Machine(self.config, node, self.folder / "nodes" / node.name) for node in self.config.nodes]
        group = cookie(self.config.name)
        for path in self.cgroups.groups(group):
            self.journal.intend("cgroup", path=str(path), cookie=group)
        self.cgroups.make(group)
        for machine in machines:
            machine.mount(self.image, self.journal)
            machine.furnish(self.renderer.files(machine.node), self.accounts)
            machine.start(shared, self.cgroups, self.journal)
        deadline = Deadline(_BOOT_SECONDS)
        with ThreadPoolExecutor(len(machines) + 1) as pool:
            waits = [pool.submit(machine.wait_for_ssh, deadline) for machine in machines]
            if registry:
                waits.append(pool.submit(deploy_images, registry, containers, self.accounts.owner("slurm")[1]))
        for wait in waits:
            wait.result()

    def _shared(self, shared: Path) -> Path | None:
        if self.config.storage.kind != "host-directory":
            return None
        make_shared(shared, self.accounts.owner(self.config.user))
        mount = Path(self.config.storage.mount)
        registry = Path(self.config.registry)
        if not registry.is_relative_to(mount) or registry == mount:
            raise ProvisionError(
                self.config.name,
                f"containers.registry {registry} is not on shared storage",
                expected=f"a folder below {mount}",
                cure="leave containers.registry out, or put it below storage.mount",
            )
        place = shared / registry.relative_to(mount)
        place.parent.mkdir(parents=True, exist_ok=True)
        make_registry(place, self.accounts.owner("slurm")[1])
        return place
