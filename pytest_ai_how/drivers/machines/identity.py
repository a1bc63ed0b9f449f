"""The secrets of one cluster: made at provisioning, kept in its state folder, gone with it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

# The most that munged accepts (mungekey(8), --bits: 256 to 8192).
_MUNGE_KEY_BYTES = 1024


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
    ``hosts`` holds a host key for each node.
    """

    client: KeyPair
    user: KeyPair
    hosts: dict[str, KeyPair]
    munge: bytes


def make_identity(nodes: Iterable[str]) -> Identity:
    """Make all secrets of a cluster anew."""
    hosts = {node: make_pair() for node in nodes}
    return Identity(make_pair(), make_pair(), hosts, secrets.token_bytes(_MUNGE_KEY_BYTES))


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
