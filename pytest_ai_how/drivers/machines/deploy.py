"""Put container images into a registry that lies on storage which the machines serve themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.config.models import served
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers.machines.shared import CATALOG, catalog, place_of
from pytest_ai_how.node import Node

# Seconds: the controller makes the registry's folders once the file system is mounted.
_FOLDERS = 120.0


def deploy_over(node: Node, registry: str, images: Mapping[str, Path]) -> None:
    """Write ``images`` into ``registry`` through ``node``, and last the catalogue; nothing when that is there.

    Raises :class:`~pytest_ai_how.errors.DeadlineExceeded` when the machine has not made the registry's folders.
    """
    if node.run("test", "-s", f"{registry}/{CATALOG}", check=False).ok:
        return
    wait_for(
        lambda: node.run("test", "-f", f"{registry}/.registry/config.yaml", check=False).ok,
        within=_FOLDERS,
        what=f"{registry}/.registry/config.yaml made",
        where=node.name,
        every=1.0,
        cure="see on the machine: systemctl status ai-how-shared.service",
    )
    entries = []
    for image, source in images.items():
        name, content = served(image), source.read_bytes()
        place = place_of(name)
        node.write(f"{registry}/{place}", content)
        node.run("chown", "root:slurm", f"{registry}/{place}")
        digest = hashlib.sha256(content).hexdigest()
        entries.append({"name": name, "file": place, "digest": f"sha256:{digest}", "size": len(content)})
    node.write(f"{registry}/{CATALOG}", catalog(entries), 0o664)
    node.run("chown", "root:slurm", f"{registry}/{CATALOG}")
