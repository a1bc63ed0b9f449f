"""How much work the suites of MLOps do: sizes as data, a file a scale, the same code for all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import CatalogueError, ConfigError
from pytest_ai_how.explain import explain
from pytest_ai_how.marked import Marked, Mistake, nearest, read_text, read_yaml, shown


class Section(BaseModel):
    """What one workload is at a scale: each suite has a model of its own for its sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


class Scale:
    """One scale: its name, and its sections by workload."""

    def __init__(self, name: str, file: str, marked: Marked) -> None:
        self.name, self.file = name, file
        self._marked = marked
        self._sections: Mapping[str, object] = marked.value if isinstance(marked.value, dict) else {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._sections)

    def section(self, workload: str, model: type[S]) -> S:
        """The section of ``workload``, as ``model``.

        Raises :class:`ConfigError` with every mistake in it as ``file:line``, :class:`CatalogueError` where it is
        missing.
        """
        if workload not in self._sections:
            hint = nearest(workload, self._sections)
            seen = f"says nothing of {shown(workload)}" + (f" ({hint})" if hint else "")
            raise CatalogueError(self.file, seen, expected=f"a section {workload}")
        try:
            return model.model_validate_json(json.dumps(self._sections[workload]), strict=True)
        except ValidationError as error:
            mistakes = [replace(one, path=(workload, *one.path)) for one in explain(error, model, {})]
            raise ConfigError(self._marked.problems(mistakes)) from error

    def metric(self, name: str) -> str:
        """The metric that ``name`` is at this scale: limits have the scale in their names."""
        return f"{name}.{self.name}"


def load_scale(name: str) -> Scale:
    """Read ``configs/scales/<name>.yaml``. Raises :class:`ConfigError` for a file that is no mapping of sections."""
    file = f"configs/scales/{name}.yaml"
    return read_scale(name, asset(file), file)


def read_scale(name: str, path: Path, file: str) -> Scale:
    """Read the scale in ``path``, which messages call ``file``."""
    marked = read_yaml(read_text(path, file), file)
    mistakes = list(marked.mistakes)
    sections = marked.value if isinstance(marked.value, dict) else {}
    if not sections:
        mistakes.append(Mistake((), "has no sections; expected a mapping of workloads"))
    mistakes += [Mistake((key,), "is no mapping") for key, value in sections.items() if not isinstance(value, dict)]
    if mistakes:
        raise ConfigError(marked.problems(mistakes))
    return Scale(name, file, marked)
