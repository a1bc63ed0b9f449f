"""Mistakes in marks are told when a file is collected, before anything is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.capabilities import CAPABILITIES
from pytest_ai_how.errors import CatalogueError
from pytest_ai_how.marked import nearest
from pytest_ai_how.skin.marks import ids_of, mistakes, requirements


def problems(items: Iterable[pytest.Item], more_capabilities: Collection[str] | None) -> list[str]:
    """One line a mistake, with file:line and test; parametrised tests say it once.

    Capabilities are those of the product and ``more_capabilities``; None: nobody asked for more, so any may exist.
    """
    found = (f"{_where(item)}: {what}" for item in items for what in _problems(item, more_capabilities))
    return list(dict.fromkeys(found))


def _problems(item: pytest.Item, more: Collection[str] | None) -> Iterator[str]:
    yield from mistakes(item)
    catalogue = load_catalogue()
    for check in ids_of(item):
        try:
            catalogue[check]
        except CatalogueError as error:
            yield f"CatalogueError: {error}"
    if more is None:
        return
    for capability in requirements(item):
        if capability not in CAPABILITIES and capability not in more:
            hint = nearest(capability, [*CAPABILITIES, *more])
            yield f"CatalogueError: no capability is named {capability!r}" + (f" ({hint})" if hint else "")


def _where(item: pytest.Item) -> str:
    file, line, _ = item.location
    return f"{file}:{(line or 0) + 1}: {getattr(item, 'originalname', None) or item.name}"
