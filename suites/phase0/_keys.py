"""The key pair by which this host reaches the machines, and whether a machine lets it in.

Of machines that are up, or that exist, it is theirs; phase 1 looks again at that of machines that it has made for it.
Else a pair is made as for machines, and what lets it in is the image's own sshd, over the files that the machine would
have: no machine is made.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.identity import Identity, load_identity, make_identity, write_keys
from pytest_ai_how.drivers.machines.render import Confinement, File, Renderer
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.lease.state import cluster_state
from pytest_ai_how.shell import Result

from ._over import lay_out, run_over

_CLIENT = "/ai-how-client"
# Nothing of this host's or the image's settings; the host key must be the one that was made for the machine.
_OPTIONS = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", "PreferredAuthentications=publickey", "-o", "ProxyCommand=/usr/sbin/sshd -i -e"),
)
# Seconds that a machine which is up may take to answer.
_ANSWER = 15.0


@dataclass(frozen=True, slots=True)
class Keys:
    """A pair: the private half's file, and the public half as whoever made it wrote it down (empty: nowhere)."""

    private: Path
    public: str

    @property
    def mode(self) -> int:
        """The permission bits of the private half."""
        return stat.S_IMODE(self.private.stat().st_mode)

    def derived(self) -> str:
        """The public half of the private one. Raises ValueError when that can't be read."""
        key = load_ssh_private_key(self.private.read_bytes(), None)
        return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@dataclass(frozen=True, slots=True)
class Door:
    """What came of knocking at every machine with the key, by name; ``what`` says what was knocked at."""

    what: str
    answers: Mapping[str, Result]


def tried(
    config: ClusterConfig, driver: Driver, up: bool, tree: Callable[[], Path], scratch: Path
) -> tuple[Keys, Door]:
    """The pair of a cluster, and what came of knocking with it: at its machines, or at the sshd of the image ``tree``.

    Raises :class:`~pytest_ai_how.errors.AiHowError` where there is no pair, or no image can be had.
    """
    if driver.name == "ssh":
        driver.check(config)
        private = Path(config.ssh.key or "~/.ssh/id_ed25519").expanduser()
        public = private.with_name(f"{private.name}.pub")
        return Keys(private, public.read_text() if public.is_file() else ""), knock_at_machines(config, driver)
    if up:
        return kept(config)[0], knock_at_machines(config, driver)
    keys, identity = make_keys(config, scratch / "keys")
    return keys, knock_at_image(config, keys, identity, tree(), scratch)


def kept(config: ClusterConfig) -> tuple[Keys, Identity]:
    """The pair of machines that we made, and all that was made with it.

    Raises :class:`~pytest_ai_how.errors.ProvisionError` where there are none.
    """
    folder = cluster_state(config.name) / "machines" / "keys"
    identity = load_identity(folder)
    return Keys(folder / "id_ed25519", identity.client.public), identity


def knock_at_machines(config: ClusterConfig, driver: Driver) -> Door:
    """Ask each machine that is to run, over a connection of its own, who it lets in."""
    found = {}
    for node in config.nodes:
        if node.auto_start:
            transport = driver.transport(config, node.name)
            try:
                found[node.name] = transport.execute(("id", "-un"), timeout=_ANSWER)
            except AiHowError as error:
                found[node.name] = Result(("id", "-un"), 255, stderr=error.seen, node=node.name)
            finally:
                transport.close()
    return Door("the machines", found)


def make_keys(config: ClusterConfig, folder: Path) -> tuple[Keys, Identity]:
    """Make the keys of a cluster in ``folder`` as provisioning does."""
    identity = make_identity(node.name for node in config.nodes)
    write_keys(folder, identity, _renderer(config, identity).shared_text("known_hosts.j2"))
    return Keys(folder / "id_ed25519", identity.client.public), identity


def knock_at_image(config: ClusterConfig, keys: Keys, identity: Identity, root: Path, folder: Path) -> Door:
    """Have the image's ssh log in at its sshd, once over the files of each machine; ``folder`` is for scratch.

    Raises :class:`~pytest_ai_how.errors.AiHowError` where this account may not (it takes root).
    """
    renderer, found = _renderer(config, identity), {}
    client = [
        File(f"{_CLIENT}/id_ed25519", keys.private.read_bytes(), keys.mode),
        File(f"{_CLIENT}/known_hosts", renderer.shared_text("known_hosts.j2").encode()),
        File("/run/sshd/.made", b""),
    ]
    with Sandbox() as sandbox:
        for node in config.nodes:
            files = (file for file in renderer.files(node) if file.path.startswith(("/etc/ssh/", "/root/.ssh/")))
            layer, scratch = lay_out(folder / node.name, [*files, *client]), folder / f"{node.name}.root"
            scratch.mkdir()
            places = ("-i", f"{_CLIENT}/id_ed25519", "-o", f"UserKnownHostsFile={_CLIENT}/known_hosts")
            target = ("-o", f"HostKeyAlias={node.name}", f"root@{node.name}", "id", "-un")
            found[node.name] = run_over(root, layer, scratch, ["ssh", *_OPTIONS, *places, *target], sandbox)
    return Door("the image's sshd, over each machine's files", found)


def _renderer(config: ClusterConfig, identity: Identity) -> Renderer:
    return Renderer(config, identity, Confinement("autodetect", {}))
