"""From ``--cluster`` to a :class:`ClusterConfig`, or to every mistake at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from pytest_ai_how.assets import asset
from pytest_ai_how.config.expand import expander
from pytest_ai_how.config.models import FORMS, ClusterConfig
from pytest_ai_how.config.plain import Plain
from pytest_ai_how.config.reference import Reference, config_names, names_a_file, refer
from pytest_ai_how.config.rules import broken_rules
from pytest_ai_how.config.several import CLUSTERS, ClustersFile, broken_between, entries_of, misplaced
from pytest_ai_how.errors import ConfigError, Problem
from pytest_ai_how.explain import explain
from pytest_ai_how.marked import KeyPath, Mistake, nearest, read_text, read_yaml, shown

M = TypeVar("M", bound=BaseModel)

__all__ = ["config_names", "load_config", "load_configs", "load_file", "names_a_file"]


def load_config(cluster: str, *, environ: Mapping[str, str] = os.environ) -> ClusterConfig:
    """Read and validate the cluster that ``cluster`` names: ``local``, ``workstation/hpc``, or a YAML file.

    A value that ends in .yaml or .yml is a file, and so is one with a slash whose first part is no shipped name; a
    file of several clusters is followed by a slash and one of them. Raises :class:`ConfigError` with every mistake of
    the file in its order, or naming the clusters to choose from. Nothing is written and nothing is contacted.
    """
    found = load_configs(cluster, environ=environ)
    if len(found) > 1:
        reference = refer(cluster)
        choices = " or ".join(f"--cluster={reference.name}/{key}" for key in load_file(reference.path, environ=environ))
        raise ConfigError([Problem("--cluster", 0, "", f"{cluster} holds {len(found)} clusters; say {choices}")])
    return found[0]


def load_configs(cluster: str, *, environ: Mapping[str, str] = os.environ) -> tuple[ClusterConfig, ...]:
    """Like :func:`load_config`, but where a file of several is named without one of them, all of them."""
    reference = refer(cluster)
    found = load_file(reference.path, environ=environ)
    return (found[_chosen(reference, found)],) if reference.cluster else tuple(found.values())


def load_file(path: Path, *, environ: Mapping[str, str] = os.environ) -> dict[str, ClusterConfig]:
    """Read and validate all clusters of a file, by their keys; the one of a file of its own by the empty key."""
    file = _short(path)
    marked = read_yaml(read_text(path, file), file, expander(environ))
    if not isinstance(marked.value, dict):
        raise ConfigError(marked.problems((Mistake((), f"is {shown(marked.value)}, expected a mapping"),)))
    mistakes = list(marked.mistakes)
    several = CLUSTERS in marked.value
    found = _several(marked.value, mistakes) if several else {"": _one(marked.value, mistakes)}
    configs = {key: config for key, config in found.items() if config is not None}
    if mistakes or len(configs) < len(found):
        raise ConfigError(marked.problems(mistakes))
    return configs


def _chosen(reference: Reference, found: Mapping[str, ClusterConfig]) -> str:
    if reference.cluster in found:
        return reference.cluster
    if "" in found:
        what = f"{reference.name} is one cluster; say --cluster={reference.name}"
        raise ConfigError([Problem("--cluster", 0, "", what)])
    what = f"{reference.name} holds no cluster {shown(reference.cluster)}; known: {', '.join(found)}"
    raise ConfigError([Problem("--cluster", 0, "", what, nearest(reference.cluster, found))])


def _short(path: Path) -> str:
    """The path as a person at this prompt would write it."""
    absolute = path.absolute()
    here = Path.cwd()
    text = str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)
    return text if text.isprintable() else ascii(text)


def _one(data: Plain, mistakes: list[Mistake], prefix: KeyPath = ()) -> ClusterConfig | None:
    """The cluster that ``data`` describes; what is wrong is added to ``mistakes``, its path behind ``prefix``."""
    config, wrong = _validated(ClusterConfig, data)
    for found in (wrong, broken_rules(data), _limits(data)):
        mistakes += _fresh((replace(one, path=(*prefix, *one.path)) for one in found), mistakes)
    return config


def _several(data: Plain, mistakes: list[Mistake]) -> dict[str, ClusterConfig | None]:
    _, wrong = _validated(ClustersFile, data)
    mistakes += _fresh(wrong, mistakes)
    clusters = dict(entries_of(data))
    for key in clusters:
        mistakes += _fresh(misplaced(key, data), mistakes)
    found = {key: _one(entry, mistakes, (CLUSTERS, key)) for key, entry in clusters.items()}
    mistakes += _fresh(broken_between(clusters), mistakes)
    return found


def _validated(model: type[M], data: Plain) -> tuple[M | None, Iterator[Mistake]]:
    try:
        # Strict JSON semantics: no number from a text, no true as 1, but lists for tuples and texts for addresses.
        return model.model_validate_json(json.dumps(data), strict=True), iter(())
    except ValidationError as error:
        return None, explain(error, model, FORMS)


def _limits(data: Plain) -> Iterator[Mistake]:
    known = sorted(path.stem for path in asset("configs/limits").glob("*.yaml"))
    name = data.get("limits", "local")
    if isinstance(name, str) and name not in known:
        what = f"no limits are named {shown(name)}; known: {', '.join(known)}"
        yield Mistake(("limits",), what, nearest(name, known))


def _fresh(found: Iterable[Mistake], before: list[Mistake]) -> list[Mistake]:
    """What is said of values that nothing was said of yet: one mistake, one line."""
    told = {mistake.path for mistake in before if mistake.at is None}
    return [mistake for mistake in found if told.isdisjoint(_around(mistake.path))]


def _around(path: KeyPath) -> set[KeyPath]:
    return {path[:length] for length in range(1, len(path) + 1)}
