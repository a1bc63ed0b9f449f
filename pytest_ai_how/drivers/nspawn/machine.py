"""One node: an overlay over the image, its configuration, and the systemd-nspawn process that boots it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_ai_how.config.models import ClusterConfig, NodeConfig
from pytest_ai_how.deadline import Deadline
from pytest_ai_how.drivers.machines.accounts import Accounts, add_user
from pytest_ai_how.drivers.machines.boot import await_ssh
from pytest_ai_how.drivers.nspawn.cgroups import Cgroups
from pytest_ai_how.drivers.nspawn.gpus import devices
from pytest_ai_how.errors import ProvisionError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.state import cookie

if TYPE_CHECKING:
    from pytest_ai_how.drivers.machines.render import File

# systemd-nspawn 252 to 257, in nspawn's main program: a machine that reboots under --keep-unit ends with 133 and is to
# be started again. Before that this shell joins the node's cgroups, so that all that follows is born in them.
# Told to end, it kills the machine's init rather than nspawn: the init would survive nspawn, but when the init is gone
# nspawn cleans up after itself and ends. What a machine holds is thrown away, so it need not shut down.
# What nspawn keeps in /run it keeps in this shell's own mount namespace: killed or not, nothing of it stays there.
# With version 2 (a group in $divided) the machine has a group of its own below the node's, anew with each boot: nspawn
# hands on the controllers of the group that it finds itself in, which works while it is alone in that group.
_LAUNCH = """
groups=$1; divided=$2; shift 2
mkdir -p /run/systemd/nspawn && mount -t tmpfs -o mode=755 aihow /run/systemd/nspawn || exit 1
for group in $groups; do echo $$ >"$group/cgroup.procs" || exit 1; done
stop() { read -r inits <"/proc/$nspawn/task/$nspawn/children"; kill -KILL $inits; }
trap stop TERM
status=133 boot=0
while [ "$status" -eq 133 ]; do
    own=
    if [ -n "$divided" ]; then boot=$((boot + 1)); own=$divided/boot$boot; mkdir "$own" || exit 1; fi
    sh -c '[ -z "$0" ] || echo $$ >"$0/cgroup.procs" || exit 1; exec "$@"' "$own" "$@" & nspawn=$!
    wait "$nspawn"; status=$?
    while kill -0 "$nspawn" 2>/dev/null; do wait "$nspawn"; status=$?; done
done
exit "$status"
"""

# Slurm confines devices with bpf(2) where control groups are version 2; Apptainer mounts.
_CALLS = "@mount bpf"
_DETACHED = ("setsid", "--fork", "unshare", "--mount", "--propagation=slave")


@dataclass(frozen=True, slots=True)
class Machine:
    """A node and the folder of this host that holds what is its own."""

    config: ClusterConfig
    node: NodeConfig
    folder: Path

    @property
    def name(self) -> str:
        """The machine's name on this host: unique among clusters."""
        return f"aihow-{self.config.name}-{self.node.name}"

    @property
    def root(self) -> Path:
        """The node's root tree, where the overlay is mounted."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """What the machine said since it was made, from one start to the next."""
        return self.folder / "console.log"

    def mount(self, image: Path, journal: Journal, gpus: Path | None = None) -> None:
        """Mount an overlay over ``image``, or over ``gpus``, what computes on this host's, and that.

        Nothing of it outlives the machine, so the host syncs none of it.
        """
        upper, work = self.folder / "upper", self.folder / "work"
        for folder in (upper, work, self.root):
            folder.mkdir(parents=True)
        journal.intend("mount", target=str(self.root))
        lower = f"{gpus}:{image}" if gpus else str(image)
        options = f"lowerdir={lower},upperdir={upper},workdir={work},volatile"
        _run(self.node.name, "mount", "-t", "overlay", self.name, "-o", options, str(self.root))
        if gpus:
            _run(self.node.name, "chroot", str(self.root), "ldconfig")

    def furnish(self, files: Iterable[File], accounts: Accounts) -> None:
        """Write the node's own files into its root."""
        user = self.config.user
        add_user(self.root, user, accounts.owner(user))
        for home, owner in (("root", "root"), (f"home/{user}", user)):
            keys = self.root / home / ".ssh"
            keys.mkdir(mode=0o700, exist_ok=True)
            os.chown(keys, *accounts.owner(owner))
        _write_tree(self.root, files, accounts)

    def start(self, shared: Path, cgroups: Cgroups, journal: Journal) -> None:
        """Start the machine, for the first time or again; the process is detached from this one and outlives it."""
        cgroups.make(self.cookie, self.node.memory)
        if not any(entry.kind == "process" and entry.data["cookie"] == self.cookie for entry in journal.pending()):
            journal.intend("process", cookie=self.cookie)
        divided = cgroups.divide(self.cookie)
        if divided:
            (divided / "launch").mkdir()
        groups = [divided / "launch"] if divided else cgroups.groups(self.cookie)
        # The descriptor of the log is all that the machine gets from this process.
        with self.console.open("ab") as console:
            subprocess.run(
                [
                    *_DETACHED,
                    "sh",
                    "-c",
                    _LAUNCH,
                    self.cookie,
                    " ".join(map(str, groups)),
                    str(divided or ""),
                    *self._argv(shared),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                close_fds=True,
                check=True,
                cwd="/",
                env=_environment(cgroups),
            )

    @property
    def cookie(self) -> str:
        """The mark on the machine's processes, and the name of its control groups."""
        return f"{cookie(self.config.name)}/{self.node.name}"

    def _argv(self, shared: Path) -> list[str]:
        network = self.config.network
        assert network is not None, "checked by NspawnDriver.check"
        binds = [f"--bind={shared}:{self.config.storage.mount}"] if self.config.storage.kind == "host-directory" else []
        return [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--machine={self.name}"),
            *(f"--hostname={self.node.name}", f"--directory={self.root}", f"--network-bridge={network.bridge}"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", f"--setenv=AI_HOW={self.cookie}"),
            *("--bind=/dev/fuse", *(f"--bind={device}" for device in devices(self.config, self.node)), *binds),
            *("--capability=all", f"--system-call-filter={_CALLS}", "--boot", "--"),
            *(f"ai_how.role={role}" for role in self.node.roles),
        ]

    def wait_for_ssh(self, within: float | Deadline) -> None:
        """Wait until sshd answers. Raises :class:`ProvisionError` with the console's end when it does not."""
        await_ssh(self.node, self.console, self._ended, within, every=0.02)

    def _ended(self) -> str:
        alive = any(self.cookie.encode() in line for line in _command_lines())
        return "" if alive else "systemd-nspawn ended while the machine booted"


def _command_lines() -> Iterable[bytes]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cmdline").read_bytes()
            except OSError:  # it ended while we looked
                continue


def _write_tree(root: Path, files: Iterable[File], accounts: Accounts) -> None:
    for file in files:
        path = root / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(file.content)
        os.chown(path, *accounts.owner(file.owner))
        path.chmod(file.mode)


def _environment(cgroups: Cgroups) -> dict[str, str]:
    unified = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if cgroups.mode == "v2" else {}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **unified}


def _run(node: str, *argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProvisionError(node, f"`{' '.join(argv)}` exited with {done.returncode}: {done.stderr.strip()}")
