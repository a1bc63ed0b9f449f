"""What is beyond the machines' own network."""

from __future__ import annotations

from pytest_ai_how.config.outside import Peer
from pytest_ai_how.facts import read
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result

from ._mesh import connecting

# Seconds for the head of a file.
_FETCH = 20


def wrong_peer(node: Node, peer: Peer, evidence: Evidence) -> str:
    """What is wrong with a service outside as one machine sees it; empty when it is as declared."""
    door = connecting(str(peer.address), peer.port)
    found = read(node, [door])[door]
    evidence.result(found, f"{node.name}: {peer.name}")
    door.of(found)
    where = f"{peer.name} ({peer.address} port {peer.port})"
    if found.ok and not peer.reachable:
        return f"reaches {where}, declared to be isolated from it"
    if not found.ok and peer.reachable:
        said = (found.stderr.strip() or "no answer").splitlines()[-1].rpartition(": ")[2]
        return f"does not reach {where}: {said}; declared reachable"
    return ""


def fetching(node: Node, url: str) -> Result:
    """Get the beginning of what a mirror has; the machines have Python, but no program that fetches."""
    code = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read(200))"
    return node.run("python3", "-c", code, url, check=False, timeout=_FETCH)
