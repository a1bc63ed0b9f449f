"""The directories of this host that virtual machines mount, seen from both sides."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.models import VirtiofsMount
from pytest_ai_how.drivers.protocol import Directories, Driver
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Mounted:
    """One directory of this host on one machine."""

    node: Node
    plan: VirtiofsMount

    @property
    def where(self) -> str:
        """The machine and the mount point: what messages begin with."""
        return f"{self.node.name}: {self.plan.mount}"


def mounted(driver: Driver, cluster: Cluster) -> list[Mounted]:
    """All that the configuration says is mounted, on machines that start by themselves."""
    if not isinstance(driver, Directories):
        raise AiHowError(
            f"cluster {cluster.name!r}",
            f"driver {driver.name} can't tell which directories its machines mount",
            expected="virtual machines of this host",
            cure="mark the test with @pytest.mark.requires('virtiofs')",
        )
    starting = [node for node in cluster.nodes if node.config.auto_start]
    return [Mounted(node, plan) for node in starting for plan in driver.mounts(cluster.config, node.name)]


def table(one: Mounted, evidence: Evidence) -> dict[str, Any]:
    """What the machine's kernel says of the mount point; empty when nothing is mounted there.

    ``findmnt --json`` of util-linux 2.41::

        {"filesystems": [{"source": "ai-how-shared", "fstype": "virtiofs", "options": "rw,nosuid,nodev,relatime"}]}
    """
    told = one.node.run(
        "findmnt", "--json", "--output=SOURCE,FSTYPE,OPTIONS", "--mountpoint", one.plan.mount, check=False
    )
    evidence.result(told)
    found: list[dict[str, Any]] = json.loads(told.stdout)["filesystems"] if told.ok and told.stdout.strip() else []
    return found[0] if found else {}


def wrong_mount(one: Mounted, found: dict[str, Any]) -> str:
    """What is wrong with a line of the mount table; empty when it is as planned."""
    if not found:
        return f"{one.where}: nothing is mounted, expected virtiofs {one.plan.tag}; see `journalctl -b` there"
    if (found["fstype"], found["source"]) != ("virtiofs", one.plan.tag):
        return f"{one.where}: {found['fstype']} {found['source']} is mounted, expected virtiofs {one.plan.tag}"
    wanted = "ro" if one.plan.read_only else "rw"
    options = str(found["options"]).split(",")
    return "" if wanted in options else f"{one.where}: mounted with {found['options']}, expected {wanted}"


def owner(one: Mounted, evidence: Evidence) -> str:
    """Owner, group and mode of what is mounted, as the machine names them: ``root root 755``."""
    told = one.node.run("stat", "--format=%U %G %a", one.plan.mount, check=False)
    evidence.result(told)
    return told.stdout.strip()


@contextmanager
def from_here(one: Mounted) -> Iterator[tuple[Path, str]]:
    """A file with a random word that this host writes into the directory: its path here, and the word."""
    word = secrets.token_hex(16)
    path = Path(one.plan.source) / f".ai-how-{word[:8]}"
    path.write_text(word)
    try:
        yield path, word
    finally:
        path.unlink(missing_ok=True)


def there(one: Mounted, path: Path) -> str:
    """The path of a file of the directory as the machine has it."""
    return f"{one.plan.mount}/{path.name}"
