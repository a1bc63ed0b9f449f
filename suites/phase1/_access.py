"""Who gets into a machine by ssh, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.machines.render import ADMIN
from pytest_ai_how.errors import AiHowError, DeadlineExceeded
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.ssh import SshTransport

#: The ways in that need nothing but what somebody can guess or overhear.
BY_PASSWORD = frozenset({"password", "keyboard-interactive"})
#: sshd_config(5): ways for root that are no password; "without-password" is the old word for the second.
ROOT_BY_KEY = frozenset({"no", "prohibit-password", "without-password", "forced-commands-only"})
#: Neither an agent's keys nor the account's own are offered beside it.
NEW_KEY = """
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT && ssh-keygen -q -t ed25519 -N '' -f "$folder/key" || exit 125
ssh -i "$folder/key" -o IdentitiesOnly=yes -o IdentityAgent=none "$@"
"""
#: Seconds: sshd_config(5), PerSourcePenalties of OpenSSH 9.8 and later. Each refused login adds 5, and from 15 on the
#: address is hung up on until they are over; four logins that fail are no more than these.
PENALTY = 40.0
_AGAIN = 2.0
_REFUSED = re.compile(r"Permission denied \(([^)]*)\)")


def administrators(cluster: Cluster) -> dict[str, Node]:
    """Each machine, reached as the account that becomes root by sudo, with the key that we come by."""
    return {node.name: Node(node.config, _as_administrator(cluster, node)) for node in cluster.nodes}


def _as_administrator(cluster: Cluster, node: Node) -> SshTransport:
    if not isinstance(node.transport, SshTransport):
        raise AiHowError(node.name, "is not reached by ssh", expected="a machine that somebody logs in to")
    return replace(node.transport, user=cluster.config.ssh.user if not cluster.config.is_ours else ADMIN)


def without_key(node: Node, user: str, ports: Mapping[str, int]) -> Result:
    """Let a machine try to log in to itself with no key. Nothing secret is sent, so it does not matter who answers."""
    argv = ("ssh", *_itself(node, ports), "-o", "PubkeyAuthentication=no", *_target(node, user))
    return _answered(lambda: node.run(*argv, check=False))


def with_new_key(node: Node, user: str, ports: Mapping[str, int]) -> Result:
    """Let a machine try to log in to itself with a key that is made for this and known to nobody."""
    argv = ("sh", "-c", NEW_KEY, "sh", *_itself(node, ports), *_target(node, user))
    return _answered(lambda: node.run(*argv, check=False))


def _answered(ask: Callable[[], Result]) -> Result:
    """What sshd says to a login once it speaks to us: it may hang up, in silence, on who failed too often of late."""
    heard: list[Result] = []

    def spoke() -> bool:
        heard.append(ask())
        return heard[-1].ok or _REFUSED.search(heard[-1].stderr) is not None

    with suppress(DeadlineExceeded):
        wait_for(spoke, within=PENALTY, what="letting us in or refusing us", every=_AGAIN, at_most=_AGAIN)
    return heard[-1]


def _itself(node: Node, ports: Mapping[str, int]) -> tuple[str, ...]:
    return (
        *("-F", "/dev/null", "-T", "-p", str(ports[node.name]), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
    )


def _target(node: Node, user: str) -> tuple[str, ...]:
    return (f"{user}@{node.address}", "true")


def offered(told: Result) -> frozenset[str]:
    """The ways in that sshd offered to who had none of them; "none" when it let somebody in without any.

    OpenSSH 10.0: ``root@10.78.0.11: Permission denied (publickey,password).``
    """
    if told.ok:
        return frozenset({"none"})
    refused = _REFUSED.search(told.stderr)
    if not refused:
        said = (told.stderr.strip() or "nothing").splitlines()[-1]
        raise AiHowError(told.node, f"its sshd neither let us in nor refused us: {said}", expected="an answer of sshd")
    return frozenset(refused[1].split(","))


def wrong_policy(node: str, settings: Mapping[str, tuple[str, ...]], *, root: bool) -> Iterator[str]:
    """What of ``sshd -T`` lets in who has no key; ``root``: whether administrators log in as root, with a key."""
    wanted = {"pubkeyauthentication": "yes", "passwordauthentication": "no", "permitemptypasswords": "no"}
    wanted["kbdinteractiveauthentication"] = "no"
    for key, value in wanted.items():
        seen = settings.get(key, ("not told",))[0]
        if seen != value:
            yield f"{node}: sshd goes by {key} {seen}, expected {value}; see /etc/ssh/sshd_config and sshd_config.d"
    seen, allowed = settings.get("permitrootlogin", ("not told",))[0], ROOT_BY_KEY if root else frozenset({"no"})
    if seen not in allowed:
        yield f"{node}: sshd goes by permitrootlogin {seen}, expected {' or '.join(sorted(allowed))}"
