"""The making of one cluster's nspawn machines."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.drivers.machines.accounts import Accounts, read_accounts
from pytest_ai_how.drivers.machines.identity import Identity, make_identity, write_keys
from pytest_ai_how.drivers.machines.network import make_bridge
from pytest_ai_how.drivers.machines.render import Confinement, Renderer
from pytest_ai_how.drivers.machines.shared import deploy_images, lay_out
from pytest_ai_how.drivers.nspawn.cgroups import Cgroups
from pytest_ai_how.drivers.nspawn.gpus import devices, layer, numbers
from pytest_ai_how.drivers.nspawn.machine import Machine
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
        confinement = Confinement(cgroups.plugin, cgroups.absent())
        self.renderer = Renderer(config, self.identity, confinement, numbers=partial(numbers, config))

    def network(self) -> None:
        """Make the bridge and write the keys by which this host reaches the machines."""
        network = self.config.network
        assert network is not None, "checked by NspawnDriver.check"
        self.journal.intend("bridge", name=network.bridge, cookie=cookie(self.config.name))
        make_bridge(network, self.config.name)
        write_keys(self.folder / "keys", self.identity, self.renderer.shared_text("known_hosts.j2"))

    def run(self, containers: Mapping[str, Path]) -> None:
        """Start all machines, fill the shared directory beside that, and wait for both."""
        shared = self.folder / "shared"
        registry = lay_out(self.config, shared, self.accounts)
        machines = [Machine(self.config, node, self.folder / "nodes" / node.name) for node in self.config.nodes]
        group = cookie(self.config.name)
        for path in self.cgroups.groups(group):
            self.journal.intend("cgroup", path=str(path), cookie=group)
        self.cgroups.make(group)
        starting = [machine for machine in machines if machine.node.auto_start]
        gpus = self.folder / "gpus"
        if any(devices(self.config, node) for node in self.config.nodes):
            layer(gpus)
        for machine in machines:
            machine.mount(self.image, self.journal, gpus if devices(self.config, machine.node) else None)
            machine.furnish(self.renderer.files(machine.node), self.accounts)
            if machine in starting:
                machine.start(shared, self.cgroups, self.journal)
        deadline = Deadline(_BOOT_SECONDS)
        with ThreadPoolExecutor(len(starting) + 1) as pool:
            waits = [pool.submit(machine.wait_for_ssh, deadline) for machine in starting]
            if registry:
                waits.append(pool.submit(deploy_images, registry, containers, self.accounts.owner("slurm")[1]))
        for wait in waits:
            wait.result()
