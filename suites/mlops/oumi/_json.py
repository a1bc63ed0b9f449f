"""JSON that a job left, held to what it should be."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], text: str, where: str, expected: str = "") -> M:
    """Read ``text``. Raises :class:`AssertionError` naming the first thing that is wrong, and what was expected."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "the file"
        hint = f"; expected {expected}" if expected else ""
        raise AssertionError(f"{where}: {at}: {first['msg']}{hint}") from error
