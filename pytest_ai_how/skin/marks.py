"""The plugin's marks, and what a test item says by them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

MARKS = (
    "check(*ids): the rows of the catalogue of checks that the test puts to the test",
    "on(role): run the test once for each node that has the role; the fixture 'node' is that node",
    "requires(*capabilities): not applicable where the cluster lacks one of them",
    "reads(*facts): what the test asks the fixture 'facts' for, read with all others in one round trip a machine",
    "uses(*services): what the test uses besides the services among its fixtures: no other has these alone meanwhile",
    "exclusive(*services): nothing else of the run uses the cluster, or these services of it, meanwhile",
    "closing: judges the run itself: comes last, at most reads; 'other_rows' and 'broken_times' are fixtures for it",
    "panics: the test makes a machine's kernel panic on purpose, so that it does not fail of it",
    "disruptive: breaks something on purpose: exclusive, after all who use the same, only on a cluster that we made",
)
#: What a service that a mark names may be called: it becomes the name of a lock's file.
SERVICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_ID = re.compile(r"[A-Z][A-Z0-9]{2}-\d\d")


def ids_of(item: pytest.Item) -> tuple[str, ...]:
    """The catalogue rows that the item tests."""
    return _arguments(item, "check")


def looks_like_check(item: pytest.Item) -> bool:
    """Whether the item's ``check`` marks are ours: another plugin may have a mark of that name."""
    return any(_ID.fullmatch(one) for one in ids_of(item))


def requirements(item: pytest.Item) -> tuple[str, ...]:
    """The capabilities that the item's marks require."""
    return _arguments(item, "requires")


def mistakes(item: pytest.Item) -> Iterator[str]:
    """Marks that are written wrongly."""
    for name in ("check", "requires", "on"):
        for mark in item.iter_markers(name):
            several = name != "on"
            right = mark.args if several else len(mark.args) == 1
            if not right or mark.kwargs or not all(isinstance(one, str) for one in mark.args):
                yield f"@pytest.mark.{name} takes one {'or more texts' if several else 'text'}"
    for mark in item.iter_markers("reads"):
        from pytest_ai_how.facts import Fact  # who has no such mark does not load it

        if not mark.args or mark.kwargs or not all(isinstance(one, Fact) for one in mark.args):
            yield "@pytest.mark.reads takes one or more facts (pytest_ai_how.facts.Fact)"
    for name, least in (("exclusive", "nothing, or "), ("uses", "")):
        for mark in item.iter_markers(name):
            named = all(isinstance(one, str) and SERVICE_NAME.fullmatch(one) for one in mark.args)
            if mark.kwargs or not named or not (mark.args or least):
                yield f"@pytest.mark.{name} takes {least}the names of services"
    if item.get_closest_marker("on") and "node" not in getattr(item, "fixturenames", ()):
        yield "@pytest.mark.on without the fixture 'node': the test would run once, on no node of the role"


def _arguments(item: pytest.Item, name: str) -> tuple[str, ...]:
    found = (one for mark in item.iter_markers(name) for one in mark.args if isinstance(one, str))
    return tuple(dict.fromkeys(found))
