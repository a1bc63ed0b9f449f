"""Pydantic's errors in the words of the person who wrote the YAML: shared by clusters and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pytest_ai_how.marked import KeyPath, Mistake, nearest, shortened, shown

_EXPECTED = {
    "int_type": "a whole number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "float_type": "a number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}


def explain(error: ValidationError, model: type[BaseModel], forms: Mapping[str, str]) -> Iterator[Mistake]:
    """One :class:`Mistake` for each thing that is really wrong, with the nearest known word where there is one.

    ``forms`` says in words what each regular expression of ``model`` asks for.
    """
    details = error.errors(include_url=False)
    unknown = {d["loc"]: nearest(str(d["loc"][-1]), _keys(model, d["loc"][:-1])) for d in details if _extra(d)}
    meant = {(*loc[:-1], hint.split("'")[1]) for loc, hint in unknown.items() if hint}
    for detail in details:
        path: KeyPath = detail["loc"]
        if _extra(detail):
            yield Mistake(path, "unknown key", unknown[path])
        elif detail["type"] == "missing":
            # A misspelt key has said it already.
            if path not in meant:
                yield Mistake(path, "is missing")
        elif detail["type"] != "too_short" or not detail["input"]:
            what, hint = _describe(detail, forms)
            # Pydantic marks a bad key of a dict so; the key itself already ends the path before it.
            yield Mistake(path[:-1] if path[-1:] == ("[key]",) else path, what, hint)


def _extra(detail: ErrorDetails) -> bool:
    return detail["type"] == "extra_forbidden"


def _describe(detail: ErrorDetails, forms: Mapping[str, str]) -> tuple[str, str]:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "too_short":
        return "is empty, expected at least one entry", ""
    if kind == "literal_error":
        known: list[str] = re.findall(r"'([^']+)'", context["expected"])
        unquoted = isinstance(value, int | float) and str(value) in known
        near = "put it in quotes" if unquoted else nearest(str(value), known)
        return f"is {shown(value)}, expected {context['expected']}", near
    expected = _EXPECTED.get(kind, "")
    if kind == "string_type" and isinstance(value, int | float):
        return f"is {shown(value)}, expected a text", "put it in quotes"
    if kind in ("int_type", "bool_type", "float_type") and isinstance(value, str):
        quoted = re.fullmatch(r"\s*(-?[0-9.]+|true|false)\s*", value, re.IGNORECASE)
        return f"is {shown(value)}, a text, expected {expected}", "no quotes" if quoted else ""
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        expected = f"{words} {context[key]}"
    elif kind == "string_pattern_mismatch":
        expected = forms[context["pattern"]]
    elif kind == "string_too_long":
        expected = f"at most {context['max_length']} characters"
    said = f", expected {expected}" if expected else f": {shortened(detail['msg'].removeprefix('Value error, '))}"
    return f"is {shown(value)}{said}", ""


def _keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    kind: Any = model
    for part in path:
        kind = get_args(_bare(kind))[0] if isinstance(part, int) else _field(kind, part)
    kind = _bare(kind)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _field(kind: Any, name: str) -> Any:
    fields: Mapping[str, Any] = getattr(_bare(kind), "model_fields", {})
    return fields[name].annotation if name in fields else get_args(_bare(kind))[-1]


def _bare(kind: Any) -> Any:
    """``kind`` without ``Annotated`` and ``| None``."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind
