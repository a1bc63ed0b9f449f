"""The secrets of one cluster: made at provisioning, kept in its state folder, gone with it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pytest_ai_how.errors import ProvisionError

# The most that munged accepts (mungekey(8), --bits: 256 to 8192).
_MUNGE_KEY_BYTES = 1024
# What BeeGFS's manual makes a connAuthFile of.
_BEEGFS_KEY_BYTES = 128
_KEPT = "identity.json"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 pair in OpenSSH's formats. The private half is never shown."""

    private: bytes
    public: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Who a cluster's machines and users are.

    ``client`` opens root and the job user from this machine, ``user`` lets the job user go from node to node,
    ``hosts`` holds a host key for each node; ``munge`` and ``beegfs`` are what daemons authenticate each other with.
    """

    client: KeyPair
    user: KeyPair
    hosts: dict[str, KeyPair]
    munge: bytes
    beegfs: bytes


def make_identity(nodes: Iterable[str]) -> Identity:
    """Make all secrets of a cluster anew."""
    hosts = {node: make_pair() for node in nodes}
    munge, beegfs = secrets.token_bytes(_MUNGE_KEY_BYTES), secrets.token_bytes(_BEEGFS_KEY_BYTES)
    return Identity(make_pair(), make_pair(), hosts, munge, beegfs)


def write_keys(folder: Path, identity: Identity, known_hosts: str) -> None:
    """Write what this host reaches the machines with, and keep all secrets beside it; ``folder`` is made."""
    folder.mkdir(mode=0o700)
    write_private(folder / "id_ed25519", identity.client.private)
    write_private(folder / "known_hosts", known_hosts.encode())
    save_identity(folder, identity)


def save_identity(folder: Path, identity: Identity) -> None:
    """Keep all secrets in the cluster's folder of keys, so that its files can be rendered again."""
    pairs = [("client", identity.client), ("user", identity.user), *identity.hosts.items()]
    data = {
        "pairs": [[name, pair.private.decode(), pair.public] for name, pair in pairs],
        "keys": [base64.b64encode(key).decode() for key in (identity.munge, identity.beegfs)],
    }
    write_private(folder / _KEPT, json.dumps(data).encode())


def load_identity(folder: Path) -> Identity:
    """What :func:`save_identity` kept. Raises :class:`ProvisionError` naming the file when it is not there."""
    path = folder / _KEPT
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ProvisionError(
            str(path), f"can't be read ({error})", expected="the keys of a cluster that is up"
        ) from error
    munge, beegfs = (base64.b64decode(key) for key in data["keys"])
    (_, client), (_, user), *hosts = ((name, KeyPair(key.encode(), public)) for name, key, public in data["pairs"])
    return Identity(client, user, dict(hosts), munge, beegfs)


def make_pair() -> KeyPair:
    """Make one ed25519 key pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return KeyPair(private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; it is never readable by others, not even while it is written."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
