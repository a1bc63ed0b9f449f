"""The key pair of the run: who has its private half, and which machines' accounts its public half opens."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.render import ADMIN
from pytest_ai_how.facts import Fact

from ..phase0._keys import Keys, kept
from ._facts import as_root

#: Of each account that has keys: its name, the file's owner, mode and path, and the file (sshd_config(5) names two).
KEYS = """
getent passwd | while IFS=: read -r name _ _ _ _ home _; do
  for file in "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; do
    [ ! -f "$file" ] || { stat -c "account: $name %U %a %n" -- "$file" && cat -- "$file" && echo; }
  done
done
"""


@dataclass(frozen=True, slots=True)
class Opened:
    """What opens an account by key: the file with the keys, who owns it, its mode, and the keys with their options."""

    path: str
    owner: str
    mode: int
    keys: frozenset[str]


def opened(text: str) -> dict[str, Opened]:
    r"""What the script says, by account and file, of sshd(8)'s AUTHORIZED_KEYS FILE FORMAT; comments are left out.

    >>> opened("account: root root 600 /root/.ssh/authorized_keys\n# me\nssh-ed25519 AAAA me@here\n\n")
    ... # doctest: +NORMALIZE_WHITESPACE
    {'root /root/.ssh/authorized_keys': Opened(path='/root/.ssh/authorized_keys', owner='root', mode=384,
        keys=frozenset({'ssh-ed25519 AAAA'}))}
    """
    found: dict[str, Opened] = {}
    for part in f"\n{text}".split("\naccount: ")[1:]:
        head, *lines = part.splitlines()
        account, owner, mode, path = head.split(" ", 3)
        keys = frozenset(key(line) for line in lines if line.strip() and not line.startswith("#"))
        found[f"{account} {path}"] = Opened(path, owner, int(mode, 8), keys)
    if not found:
        raise ValueError("no account has keys")
    return found


def key(line: str) -> str:
    """A public key without its comment; one with options stays as it is.

    >>> key("ssh-ed25519 AAAA me@here")
    'ssh-ed25519 AAAA'
    """
    words = line.split()
    return " ".join(words[:2]) if words[0].startswith(("ssh-", "ecdsa-", "sk-")) else line.strip()


OPENED_BY = Fact("the keys that open it", as_root("sh", "-c", KEYS), opened)


@dataclass(frozen=True, slots=True)
class Pair:
    """The pair, and the public half of the one by which the job user goes from node to node."""

    keys: Keys
    between: str


def read_pair(config: ClusterConfig) -> Pair:
    """That of the machines that we made."""
    keys, identity = kept(config)
    return Pair(keys, identity.user.public)


def loose(private: Path) -> Iterator[str]:
    """Why the private half, or its folder, is not this account's alone."""
    for path, wanted in ((private, 0o600), (private.parent, 0o700)):
        seen = path.stat()
        if (mode := stat.S_IMODE(seen.st_mode)) != wanted:
            yield f"{path}: mode is {mode:04o}, expected {wanted:04o}; do: chmod {wanted:o} {path}"
        if seen.st_uid != os.geteuid():
            yield f"{path}: belongs to user {seen.st_uid}, expected {os.geteuid()}, who runs this; do: chown it"


def wrong_doors(node: str, found: Mapping[str, Opened], pair: Pair, user: str) -> Iterator[str]:
    """What of a machine's accounts is opened by another key than it should, or not by that."""
    ours, between = key(pair.keys.public), key(pair.between)
    wanted = {
        f"{account} {home}/.ssh/authorized_keys": keys
        for account, home, keys in (
            ("root", "/root", {ours}),
            (ADMIN, f"/home/{ADMIN}", {ours}),
            (user, f"/home/{user}", {ours, between}),
        )
    }
    for name in sorted(wanted.keys() | found.keys()):
        account, _, path = name.partition(" ")
        if name not in found:
            yield f"{node}: {account} has no {path}, expected the key of this run in it"
            continue
        one, keys = found[name], wanted.get(name, set())
        if more := sorted(one.keys - keys):
            expected = f"{len(keys)} of this run alone" if keys else "none: nobody logs in as it"
            yield (
                f"{node}: {path} lets in {_short(more[0])}, which is none of ours; expected {expected}; "
                "do: see who put it there"
            )
        if missing := sorted(keys - one.keys):
            yield f"{node}: {path} lacks {_short(missing[0])}, expected the key of this run in it"
        if name in wanted and (one.owner, one.mode) != (account, 0o600):
            yield f"{node}: {path} is {one.owner}'s with mode {one.mode:04o}, expected {account}'s with 0600"


def _short(line: str) -> str:
    return line if len(line) < 40 else f"{line[:20]}…{line[-12:]}"
