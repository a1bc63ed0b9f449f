"""The making of one cluster's nspawn machines."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.drivers.machines.identity import Identity, make_identity, write_private
from pytest_ai_how.drivers.machines.network import make_bridge
from pytest_ai_how.drivers.machines.render import Accounts, Confinement, Renderer, read_accounts
from pytest_ai_how.drivers.machines.shared import deploy_images, make_registry, make_shared
from pytest_ai_how.drivers.nspawn.cgroups import Cgroups
from pytest_ai_how.drivers.nspawn.machine import Machine
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.state import cookie

# A node answers after about a second; a loaded machine with two cores has taken ten.
_BOOT_SECONDS = 60.0


class Build:
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
