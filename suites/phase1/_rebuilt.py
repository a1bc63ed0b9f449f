"""A machine that is made anew under the same name and address, and who it lets in."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_ai_how.errors import AiHowError, HostKeyError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.ssh import SshTransport

from ..phase4._small import Small
from ..phase6._nested import exit_of
from ._host import pinned


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was seen: the host keys that were trusted before and after, a login after, and one by the old key."""

    node: str
    before: str
    after: str
    login: Result
    by_old_key: str


def rebuild(small: Small) -> Rebuilt:
    """Make a cluster, destroy it, make it again, and log in to its machine: as it is trusted now, and as it was."""
    first = _made(small)
    before, kept = _trusted(first), small.folder / "known_hosts_before"
    shutil.copyfile(_transport(first).known_hosts, kept)
    first.run("true")
    first.transport.close()
    small.down()
    second = _made(small)
    login = second.run("uname", "-n", check=False)
    second.transport.close()
    return Rebuilt(second.name, before, _trusted(second), login, refused(second, kept))


def _made(small: Small) -> Node:
    made = small.up()
    if not made.ok:
        raise AiHowError(small.config.name, f"`{made.command}` {exit_of(made)}")
    return small.node()


def refused(node: Node, known_hosts: Path) -> str:
    """What a login says that trusts the host keys of ``known_hosts``; empty when it succeeds."""
    old = Node(node.config, replace(_transport(node), known_hosts=known_hosts))
    try:
        old.run("true")
    except HostKeyError as error:
        return str(error)
    finally:
        old.transport.close()
    return ""


def _trusted(node: Node) -> str:
    return pinned(node.transport).get(node.address, "none")


def _transport(node: Node) -> SshTransport:
    if not isinstance(node.transport, SshTransport):
        raise AiHowError(node.name, "is not reached by ssh", expected="a machine with a host key")
    return node.transport
