"""Which data sets there are, and which files each consists of: ``configs/data/sets.yaml``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import CatalogueError, ConfigError
from pytest_ai_how.explain import explain
from pytest_ai_how.marked import Mistake, nearest, read_text, read_yaml, shown

#: The manifest that ships.
MANIFEST = "configs/data/sets.yaml"
_SHA256 = r"^[0-9a-f]{64}$"
_COMMIT = re.compile(r"/([0-9a-f]{40})/")
_PLAIN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_FORMS = {_SHA256: "64 hexadecimal digits in lower case", _PLAIN: "a plain file name"}


Sha256 = Annotated[str, Field(pattern=_SHA256)]
Bytes = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Strict):
    """One file. It comes from ``url``, or from ``path`` in the Python package that is installed as ``package``.

    Of one that is ``declared``, digest and size are what the origin says of it at the first fill, at the commit that
    its address names; until then they are '' and 0.
    """

    name: Annotated[str, Field(pattern=_PLAIN)]
    sha256: Sha256 = ""
    bytes: Bytes = 0
    declared: bool = False
    url: str = ""
    package: str = ""
    path: str = ""

    @property
    def commit(self) -> str:
        """The commit that the address names; '' without one."""
        found = _COMMIT.search(self.url)
        return found[1] if found else ""

    @model_validator(mode="after")
    def _one_digest(self) -> File:
        if self.declared and not self.commit:
            raise ValueError("is declared, and its url names no commit of 40 hexadecimal digits")
        if self.declared == bool(self.sha256 and self.bytes) or bool(self.sha256) != bool(self.bytes):
            raise ValueError("has no digest, or two: expected sha256 and bytes, or declared: true without them")
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> File:
        if bool(self.url) == bool(self.package) or bool(self.package) != bool(self.path):
            raise ValueError("comes from nowhere, or from several places: expected url, or package with path")
        return self


class DataSet(_Strict):
    """One data set."""

    title: str
    files: Annotated[tuple[File, ...], Field(min_length=1)]

    @property
    def downloads(self) -> tuple[File, ...]:
        """The files that the cache holds."""
        return tuple(file for file in self.files if file.url)


def load_manifest(path: Path | None = None) -> Mapping[str, DataSet]:
    """The data sets of ``path`` (default: those that ship), by name. Raises :class:`ConfigError` as ``file:line``."""
    file = str(path) if path else MANIFEST
    marked = read_yaml(read_text(path or asset(MANIFEST), file), file)
    sections = marked.value if isinstance(marked.value, dict) else {}
    mistakes = list(marked.mistakes)
    if not sections:
        mistakes.append(Mistake((), "names no data set"))
    fields = dict.fromkeys(sections, (DataSet, ...))
    model = create_model("Manifest", __base__=_Strict, **fields)  # type: ignore[call-overload]  # named by data
    try:
        read = model.model_validate_json(json.dumps(sections), strict=True)
    except ValidationError as error:
        mistakes += explain(error, model, _FORMS)
    if mistakes:
        raise ConfigError(marked.problems(mistakes))
    return {name: getattr(read, name) for name in sections}


def data_set(manifest: Mapping[str, DataSet], name: str) -> DataSet:
    """The data set ``name``. Raises :class:`CatalogueError` naming the nearest."""
    if name not in manifest:
        hint = nearest(name, manifest)
        seen = f"no data set is named {shown(name)}" + (f" ({hint})" if hint else "")
        raise CatalogueError(MANIFEST, seen, expected=", ".join(manifest))
    return manifest[name]
