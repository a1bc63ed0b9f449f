"""Words that are no longer ours, and where the product still says them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from pytest_ai_how.assets import asset

Word = str
# What is made here, not shipped.
_MADE = frozenset({"__pycache__", "reports", "build", "dist", "node_modules"})
# Hidden folders that are ours all the same.
_OURS = frozenset({".ci", ".github"})


class Retired(BaseModel):
    """``configs/retired.yaml``; ``archives`` are paths below the product's top."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1]
    product: tuple[Word, ...] = Field(min_length=1)
    roles: tuple[Word, ...] = Field(min_length=1)
    archives: tuple[str, ...]


def retired() -> Retired:
    """The words that ship."""
    return Retired.model_validate(yaml.safe_load(asset("configs/retired.yaml").read_text(encoding="utf-8")))


def product() -> Path:
    """The product's top: the checkout, or the installed package."""
    return asset("configs").parent


def sources(top: Path) -> Iterator[Path]:
    """Every file of the product, sorted; what is hidden, or made here, is none."""
    for path in sorted(top.iterdir()):
        if path.is_symlink() or path.name in _MADE or (path.name.startswith(".") and path.name not in _OURS):
            continue
        if path.is_dir():
            yield from () if path.name.endswith(".egg-info") else sources(path)
        else:
            yield path


def said(words: Iterable[Word], files: Iterable[Path], top: Path, archives: Iterable[str]) -> Iterator[str]:
    """``file:line`` of every use of a word in a file, or in its name, but for the archives."""
    wanted, spared = [word.lower() for word in words], set(archives)
    for file in files:
        name = file.relative_to(top).as_posix()
        if name in spared:
            continue
        yield from (f"{name}: is named so: {word}" for word in wanted if word in name.lower())
        content = file.read_bytes().lower()
        for word in wanted:
            if word.encode() in content:
                lines = enumerate(content.decode(errors="replace").splitlines(), 1)
                yield from (f"{name}:{number}: says {word}" for number, line in lines if word in line)
