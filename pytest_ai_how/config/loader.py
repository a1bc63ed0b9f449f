"""From ``--cluster`` to a :class:`ClusterConfig`, or to every mistake at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from pytest_ai_how.assets import asset
from pytest_ai_how.config.expand import expander
from pytest_ai_how.config.models import FORMS, ClusterConfig
from pytest_ai_how.config.rules import broken_rules
from pytest_ai_how.errors import ConfigError, Problem
from pytest_ai_how.explain import explain
from pytest_ai_how.marked import KeyPath, Marked, Mistake, nearest, read_text, read_yaml, shown

# Files beside the clusters' own that are no clusters.
_NOT_CLUSTERS = frozenset({"checks", "versions"})


def load_config(cluster: str, *, environ: Mapping[str, str] = os.environ) -> ClusterConfig:
    """Read and validate the cluster that ``cluster`` names: a shipped name (``local``) or a YAML file.

    A value with a slash, or ending in .yaml or .yml, is a file. Raises :class:`ConfigError` with every mistake in
    file order. Nothing is written and nothing is contacted.
    """
    path = find_config(cluster)
    file = _short(path)
    marked = read_yaml(read_text(path, file), file, expander(environ))
    if not isinstance(marked.value, dict):
        raise ConfigError(marked.problems((Mistake((), f"is {shown(marked.value)}, expected a mapping"),)))
    return _validate(marked, marked.value)


def find_config(cluster: str) -> Path:
    """The file that ``cluster`` means; for a name, it exists. Raises :class:`ConfigError` for an unknown name."""
    if "/" in cluster or cluster.endswith((".yaml", ".yml")):
        return Path(cluster).expanduser()
    known = config_names()
    if cluster in known:
        return asset(f"configs/{cluster}.yaml")
    what = f"no cluster is named {shown(cluster)}; known: {', '.join(known)}; or give a file (./my.yaml)"
    raise ConfigError([Problem("--cluster", 0, "", what, nearest(cluster, known))])


def config_names() -> tuple[str, ...]:
    """The names of the clusters that ship, sorted."""
    return tuple(sorted(path.stem for path in asset("configs").glob("*.yaml") if path.stem not in _NOT_CLUSTERS))


def _short(path: Path) -> str:
    """The path as a person at this prompt would write it."""
    absolute = path.absolute()
    here = Path.cwd()
    text = str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)
    return text if text.isprintable() else ascii(text)


def _validate(marked: Marked, data: dict[str, object]) -> ClusterConfig:
    config: ClusterConfig | None = None
    mistakes = list(marked.mistakes)
    try:
        # Strict JSON semantics: no number from a text, no true as 1, but lists for tuples and texts for addresses.
        config = ClusterConfig.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        mistakes += _fresh(explain(error, ClusterConfig, FORMS), mistakes)
    mistakes += _fresh(broken_rules(data), mistakes)
    mistakes += _fresh(_limits(data), mistakes)
    if mistakes or config is None:
        raise ConfigError(marked.problems(mistakes))
    return config


def _limits(data: Mapping[str, object]) -> Iterator[Mistake]:
    known = sorted(path.stem for path in asset("configs/limits").glob("*.yaml"))
    name = data.get("limits", "local")
    if isinstance(name, str) and name not in known:
        what = f"no limits are named {shown(name)}; known: {', '.join(known)}"
        yield Mistake(("limits",), what, nearest(name, known))


def _fresh(found: Iterator[Mistake], before: list[Mistake]) -> list[Mistake]:
    """What is said of values that nothing was said of yet: one mistake, one line."""
    told = {mistake.path for mistake in before if mistake.at is None}
    return [mistake for mistake in found if told.isdisjoint(_around(mistake.path))]


def _around(path: KeyPath) -> set[KeyPath]:
    return {path[:length] for length in range(1, len(path) + 1)}
