"""The ssh driver: machines that exist already. It makes and changes nothing, says how to reach them, and
promises that the folder of the jobs goes.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import AiHowError, HostError, TransportError
from pytest_ai_how.lease.jobs import JOBS, jobs_folder, leaves_jobs
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.transport.protocol import Transport

_ANSWER_SECONDS = 15.0
# Machines asked at once.
_FAN_OUT = 32


class SshDriver:
    """Reaches the machines of a site over ssh, by their pinned host keys."""

    name = "ssh"

    def __init__(self) -> None:
        # Connections that :meth:`up` opened, until who asks for the machine's transport takes it over.
        self._open: dict[tuple[str, str], Transport] = {}

    def check(self, config: ClusterConfig) -> None:
        """Refuse a missing key or known_hosts file. Raises :class:`HostError` naming it."""
        key, known_hosts = _key(config), Path(config.ssh.known_hosts).expanduser()
        if not key.is_file():
            raise HostError(str(key), "no such private key", cure="set ssh.key, or: ssh-keygen -t ed25519")
        if not known_hosts.is_file():
            names = " ".join(str(node.address) for node in config.nodes)
            cure = f"ssh-keyscan {names} >>{known_hosts}, and compare the fingerprints on the machines"
            raise HostError(str(known_hosts), "no such file", expected="the host keys of all machines", cure=cure)

    def facts(self) -> HostFacts:
        """Nothing is known of machines that were not asked; a site declares what it lacks in its YAML."""
        return HostFacts(
            self.name, ("existing machines, nothing is provisioned",), {"owned": "the machines are not ours"}
        )

    def fingerprint(self, config: ClusterConfig) -> str:
        """A digest of the configuration."""
        return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Return when every machine answered. Raises :class:`TransportError` naming all that did not."""
        names = [node.name for node in config.nodes]
        with ThreadPoolExecutor(min(_FAN_OUT, len(names))) as pool:
            silent = [said for said in pool.map(lambda name: self._contact(config, name), names) if said]
        if silent:
            for name in names:
                self.transport(config, name).close()
            # The first that is to blame stands in the first line; all are listed below it.
            first, _, reason = silent[0].splitlines()[0].partition(": ")
            raise TransportError(
                first,
                f"{reason}; {len(silent)} of {len(names)} machines of {config.name} do not answer:\n    "
                + "\n    ".join(silent),
                expected="every machine of the configuration answering over ssh",
                cure="start them, or take them out of the YAML",
            )
        if leaves_jobs(config):
            journal.intend(JOBS, folder=jobs_folder(config), user=config.user, **_address(config))

    @property
    def contacted(self) -> bool:
        """Whether :meth:`up` has run a command on all machines, and nobody has taken over the connections."""
        return bool(self._open)

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        """A transport to ``node`` as ``ssh.user``, connected already if :meth:`up` has just contacted it."""
        return self._open.pop((config.name, node), None) or self._new(config, node)

    def _new(self, config: ClusterConfig, node: str) -> Transport:
        from pytest_ai_how.transport.ssh import SshTransport

        address = next(str(each.address) for each in config.nodes if each.name == node)
        known_hosts = Path(config.ssh.known_hosts).expanduser()
        ssh = config.ssh
        return SshTransport(node, address, ssh.port, ssh.user, _key(config), known_hosts, sudo=ssh.sudo)

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:  # noqa: ARG002  the Driver protocol's signature
        """None are known: the machines are not ours, and the user's key is read by the transport only."""
        return ()

    def _contact(self, config: ClusterConfig, node: str) -> str:
        transport = self._new(config, node)
        try:
            result = transport.execute(("true",), timeout=_ANSWER_SECONDS)
        except AiHowError as error:
            transport.close()
            return str(error)
        self._open[config.name, node] = transport
        return "" if result.ok else f"{node}: `true` exited with {result.returncode}"


def _address(config: ClusterConfig) -> dict[str, str]:
    """How the controller is reached, for the journal."""
    node, ssh = config.controller, config.ssh
    return {
        "node": node.name,
        "address": str(node.address),
        "port": str(ssh.port),
        "login": ssh.user,
        "key": str(_key(config)),
        "known_hosts": str(Path(ssh.known_hosts).expanduser()),
        "sudo": "yes" if ssh.sudo else "",
    }


def _key(config: ClusterConfig) -> Path:
    return Path(config.ssh.key or "~/.ssh/id_ed25519").expanduser()
