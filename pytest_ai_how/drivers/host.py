"""The host driver: this machine, which is its own only node. It is somebody's machine, and stays as it is.

Nothing is provisioned and nothing is set up. What is started here through us carries the cluster's mark, and one new
folder may be made to work in; both are written down before, and are gone afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.accounts import name_of
from pytest_ai_how.drivers.protocol import HostFacts
from pytest_ai_how.errors import HostError
from pytest_ai_how.lease.jobs import JOBS, jobs_folder, leaves_jobs
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.scratch import Scratch, make_scratch, refuse_scratch
from pytest_ai_how.lease.state import cookie
from pytest_ai_how.lease.undoers import WORK
from pytest_ai_how.transport.local import LocalTransport
from pytest_ai_how.transport.protocol import Transport

#: The variable by which whatever was started here through us is known.
MARKED_BY = "PYTEST_AI_HOW_WORK_OF"
_SUDO_SECONDS, _SLURM_SECONDS = 5.0, 15.0
# sd_booted(3)
_SYSTEMD = Path("/run/systemd/system")


class HostDriver:
    """Reaches this machine, as who runs us, without ssh."""

    name = "host"

    def check(self, config: ClusterConfig) -> None:
        """Refuse what the YAML asks of this machine and it has not. Raises :class:`HostError` naming it."""
        if config.launcher == "slurm":
            _refuse_slurm(config)
        python = config.interpreter
        if python is not None and not (os.access(python, os.X_OK) and Path(python).is_file()):
            there = "is no program" if Path(python).exists() else "no such file"
            cure = "name a Python interpreter that has PyTorch under 'python', or leave it out"
            raise HostError(python, there, expected="a Python interpreter", cure=cure)
        if config.storage.kind == "scratch":
            refuse_scratch(Path(config.storage.mount))

    def facts(self) -> HostFacts:
        """What this machine lacks that checks ask for."""
        absent = {"owned": "the machine is not ours"}
        if shutil.which("dkms", path=_search_path()) is None:
            absent["dkms"] = "dkms is not installed on this machine"
        if not _SYSTEMD.is_dir():
            absent["systemd"] = "systemd does not run this machine"
        if not _is_root():
            absent["root"] = "we are not root on this machine, and sudo asks for a password"
        return HostFacts(self.name, ("this machine, as it is; nothing is provisioned",), absent)

    def fingerprint(self, config: ClusterConfig) -> str:
        """A digest of the configuration."""
        return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def up(self, config: ClusterConfig, journal: Journal) -> None:
        """Make the folder to work in, where the YAML names one. Raises :class:`HostError` where something is there."""
        journal.intend(WORK, cookie=cookie(config.name))
        if config.storage.kind == "scratch":
            token = secrets.token_hex(16)
            journal.intend(Scratch.kind, path=config.storage.mount, token=token)
            # Slurm's jobs run as another account, those without it as who runs us.
            make_scratch(Path(config.storage.mount), token, 0o1777 if config.launcher == "slurm" else 0o700)
        if leaves_jobs(config):
            journal.intend(JOBS, folder=jobs_folder(config), user=config.user, node=config.controller.name)

    def transport(self, config: ClusterConfig, node: str) -> Transport:
        """A transport whose commands carry the cluster's mark."""
        return LocalTransport(node, {MARKED_BY: cookie(config.name)})

    def secrets(self, config: ClusterConfig) -> tuple[bytes, ...]:  # noqa: ARG002  the Driver protocol's signature
        """None are made."""
        return ()


def _refuse_slurm(config: ClusterConfig) -> None:
    """Raise :class:`HostError` where no job of ours can be handed to this machine's Slurm, or none would be found.

    That Slurm does not answer is no reason: it may yet, and its readiness is waited for.
    """
    if shutil.which("scontrol") is None:
        raise HostError(
            "localhost",
            "scontrol is not installed, but the launcher is slurm",
            expected="the Slurm that runs on this machine",
            cure="say launcher: direct, without the section slurm",
        )
    try:
        account = pwd.getpwnam(config.user)
    except KeyError:
        raise HostError(
            "localhost",
            f"there is no account {config.user!r}, as which jobs are to run",
            expected="an account that hands in jobs here",
            cure="name one under 'user'",
        ) from None
    if os.geteuid() not in (0, account.pw_uid):
        own = name_of(os.geteuid())
        raise HostError(
            "localhost",
            f"{own} can't hand in jobs as {config.user!r}",
            expected="root, or jobs of our own",
            cure=f"run as root, or say user: {own}",
        )
    name = config.controller.name
    if f"Node {name} not found" in _scontrol("show", "node", name):
        raise HostError(
            "localhost",
            f"Slurm knows no node {name!r}",
            expected="the node's name as Slurm has it",
            cure="name it under 'nodes' as `scontrol show node` does",
        )


def _scontrol(*words: str) -> str:
    """What scontrol says, whatever its status (1 and "Node x not found", 24.11.5); '' where it takes too long."""
    try:
        asked = subprocess.run(
            ["scontrol", *words], capture_output=True, text=True, check=False, timeout=_SLURM_SECONDS
        )
    except subprocess.TimeoutExpired:
        return ""
    return asked.stdout + asked.stderr


def _search_path() -> str:
    """Where programs are looked for: administrators' lie in folders that a user's PATH may not name."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def _is_root() -> bool:
    if os.geteuid() == 0:
        return True
    if shutil.which("sudo") is None:
        return False
    try:
        asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False, timeout=_SUDO_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
