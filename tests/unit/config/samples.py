"""What the tests of the configuration share: a sound cluster as text, and a way to load text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig

SOUND = """\
version: 1
name: t
driver: nspawn
network: {subnet: 10.79.0.0/24, bridge: aihow-t}
nodes:
  - {name: controller, roles: [controller], address: 10.79.0.10}
  - {name: node01, roles: [compute], address: 10.79.0.11, cpus: 2, gpus: {count: 2}}
slurm:
  cluster: t
  partitions:
    - {name: main, nodes: [node01], default: true}
"""


def load(folder: Path, text: str = SOUND, environ: Mapping[str, str] | None = None) -> ClusterConfig:
    """Write ``text`` to a file and load it, with no environment but ``environ``."""
    path = folder / "t.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(str(path), environ=environ or {})
