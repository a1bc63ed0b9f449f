"""TASK-045: who a message comes from: one key, that only munged reads, and the same people everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.slurm import Slurm

from .._machine import File, accounts, digest, files
from ..phase6._containers import on_each
from ..phase6._slurm_jobs import judged
from ._alike import odd_one

pytestmark = pytest.mark.requires("slurm")

KEY = "/etc/munge/munge.key"
#: What munged 0.5 wants: FILES of munged(8); it refuses to start with less.
MODES: Mapping[str, str] = MappingProxyType(
    {KEY: "0400", "/etc/munge": "0700", "/var/lib/munge": "0711", "/var/log/munge": "0700", "/run/munge": "0755"}
)
MUNGE_FILES = replace(files(*MODES), after="slurm")
MUNGE_KEY = replace(digest(KEY), after="slurm")
#: munge.h: EMUNGE_SUCCESS, EMUNGE_CRED_EXPIRED; unmunge(1) says them so (0.5.16).
SUCCESS, EXPIRED = "Success (0)", "Expired credential (15)"
#: Seconds until a credential that lives for one must be refused: its life, clocks that differ, and busy machines.
EXPIRES_WITHIN = 20.0
# One round trip for all credentials: a status and the message of each, and a line that no message holds.
_DECODE = """\
while read -r credential; do
    printf %s "$credential" | unmunge --keys=STATUS 2>&1
    printf '\\n%s\\n' "$1"
done
"""


@pytest.mark.check("SLU-01")
@pytest.mark.reads(MUNGE_FILES, MUNGE_KEY)
def test_key_and_folders(slurm: Slurm, facts: Facts) -> None:
    """All machines have the same key, which munged alone reads, in folders with the modes that it wants."""
    for node, found in facts(MUNGE_FILES, slurm.cluster.all.names).items():
        for path, mode in MODES.items():
            wanted = File(mode, "munge", "munge")
            assert path in found, f"{node}: {path} is not there; expected it with {wanted}; do: install munge, a key"
            assert found[path] == wanted, (
                f"{node}: {path} is {found[path]}, expected {wanted}; do: chown munge:munge {path}; chmod {mode} {path}"
            )
    odd = odd_one(facts(MUNGE_KEY, slurm.cluster.all.names))
    assert odd is None, (
        f"{odd.node}: its {KEY} is another one than that of {odd.other}; expected one key on all machines; do: copy "
        f"it from {odd.other} and restart munge"
    )


class Decoded(NamedTuple):
    """What unmunge said of a credential."""

    status: str
    message: str


@pytest.mark.check("SLU-02")
def test_all_pairs(slurm: Slurm, evidence: Evidence, run_id: str) -> None:
    """What each machine encodes each decodes, itself too, and refuses as expired when its life of a second is over."""
    machines = slurm.cluster.all
    encoded = on_each(machines, partial(encode, evidence=evidence, run_id=run_id))
    short = on_each(machines, partial(encode, evidence=evidence, run_id=run_id, life=1))
    for decoder, found in machines.map(partial(decode, credentials=encoded, mark=run_id)).items():
        evidence.attach(f"{decoder}: credentials of all", "\n".join(f"{name}: {one}" for name, one in found.items()))
        for encoder, one in found.items():
            assert one.status == SUCCESS, (
                f"{decoder}: unmunge of {encoder}'s credential says {one.status or 'nothing'}; expected {SUCCESS}; do: "
                "compare their keys and clocks"
            )
            wanted = message(encoder, run_id)
            assert one.message == wanted, f"{decoder}: decodes {one.message!r} of {encoder}, expected {wanted!r}"
    with judged():
        refused_when_expired(slurm, short, evidence, run_id)


def refused_when_expired(slurm: Slurm, short: Mapping[str, str], evidence: Evidence, run_id: str) -> None:
    """Wait until every machine refuses every one of the credentials, each because it has expired."""
    seen: dict[str, dict[str, Decoded]] = {}

    def others() -> list[str]:
        return [
            f"{decoder} says {one.status or 'nothing'} of {encoder}'s"
            for decoder, found in seen.items()
            for encoder, one in found.items()
            if one.status != EXPIRED
        ]

    def all_refuse() -> bool:
        seen.update(slurm.cluster.all.map(partial(decode, credentials=short, mark=run_id)))
        return not others()

    wait_for(
        all_refuse,
        within=EXPIRES_WITHIN,
        what=f"refusing credentials that lived for a second as {EXPIRED}",
        where=slurm.cluster.name,
        at_most=0.5,
        last_seen=lambda: others()[0],
        cure="compare the clocks of the machines",
    )
    evidence.attach("expired credentials", "\n".join(f"{name}: {found}" for name, found in seen.items()))


def message(node: str, run_id: str) -> str:
    """What is encoded on a machine."""
    return f"{run_id} of {node}"


def encode(node: Node, evidence: Evidence, run_id: str, life: int = 0) -> str:
    """A credential of this run made on a machine; ``life`` in seconds, 0: munged's own."""
    made = node.run("munge", f"--string={message(node.name, run_id)}", f"--ttl={life}", check=False, timeout=10)
    evidence.attach(f"{node.name}: munge, life {life or 'as configured'}", f"status {made.returncode}\n{made.stderr}")
    said = made.stderr.strip() or "nothing"
    assert made.ok, f"{node.name}: munge exited with {made.returncode}: {said}; do: `systemctl status munge` there"
    return made.stdout.strip()


def decode(node: Node, credentials: Mapping[str, str], mark: str) -> dict[str, Decoded]:
    """What a machine says of each of the credentials."""
    told = node.run("sh", "-c", _DECODE, "sh", mark, input="".join(f"{one}\n" for one in credentials.values()))
    return dict(zip(credentials, parse_decoded(told.stdout, mark), strict=True))


def parse_decoded(text: str, mark: str) -> list[Decoded]:
    r"""Read what :data:`_DECODE` prints: ``unmunge --keys=STATUS`` (0.5.16), then a line with the mark.

    >>> parse_decoded("STATUS:     Success (0)\n\nhello\nx1\nSTATUS:    Expired credential (15)\n\n\nx1\n", "x1")
    [Decoded(status='Success (0)', message='hello'), Decoded(status='Expired credential (15)', message='')]
    """
    found = []
    for part in text.split(f"\n{mark}\n")[:-1]:
        head, _, body = part.strip("\n").partition("\n\n")
        # What it can't decode has no status, but an error.
        found.append(Decoded(head.removeprefix("STATUS:").strip().removeprefix("unmunge: Error: "), body))
    return found


@pytest.mark.check("SLU-50")
def test_accounts(slurm: Slurm, facts: Facts) -> None:
    """The users of Slurm, munge and jobs have the same numbers, and groups of the same numbers, everywhere."""
    users = ("slurm", "munge", slurm.user)
    found = facts(replace(accounts(*users), after="slurm"), slurm.cluster.all.names)
    for user in users:
        for node, known in found.items():
            assert user in known, f"{node}: there is no user {user!r}; expected one, with one number on all machines"
        odd = odd_one({node: known[user] for node, known in found.items()})
        assert odd is None, (
            f"{odd.node}: user {user!r} has UID and GID {found[odd.node][user]}, on {odd.other} "
            f"{found[odd.other][user]}; expected equal numbers; do: usermod, groupmod, and chown what it owns"
        )
