"""What ``--cluster`` means: a file, and which of its clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import ConfigError, Problem
from pytest_ai_how.marked import nearest, shown

# Files beside the clusters' own that are no clusters.
_NOT_CLUSTERS = frozenset({"cards", "checks", "data", "retired", "versions"})
_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Reference:
    """A file, named ``name`` on the command line, and the cluster in it that is meant; empty: none was named."""

    path: Path
    name: str
    cluster: str = ""


def refer(cluster: str) -> Reference:
    """What ``cluster`` means: ``local``, ``workstation/hpc``, ``./my.yaml`` or ``./my.yaml/hpc``.

    A shipped name exists. Raises :class:`ConfigError` for an unknown one.
    """
    head, _, tail = cluster.rpartition("/")
    if head.endswith(_ENDINGS):
        return Reference(Path(head).expanduser(), head, tail)
    if names_a_file(cluster):
        return Reference(Path(cluster).expanduser(), cluster)
    name, _, inside = cluster.partition("/")
    known = config_names()
    if name in known:
        return Reference(asset(f"configs/{name}.yaml"), name, inside)
    what = f"no cluster is named {shown(cluster)}; known: {', '.join(known)}; or give a file (./my.yaml)"
    raise ConfigError([Problem("--cluster", 0, "", what, nearest(cluster, known))])


def names_a_file(cluster: str) -> bool:
    """Whether ``cluster`` is a path: it ends as one, or has a slash and does not begin with a shipped name."""
    head, slash, _ = cluster.partition("/")
    return cluster.endswith(_ENDINGS) or (slash != "" and head not in config_names())


def config_names() -> tuple[str, ...]:
    """The names of the files of clusters that ship, sorted."""
    return tuple(sorted(path.stem for path in asset("configs").glob("*.yaml") if path.stem not in _NOT_CLUSTERS))
