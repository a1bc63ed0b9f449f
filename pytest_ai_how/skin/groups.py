"""Tests that depend on each other (pytest-dependency) run on one xdist worker, in one xdist group."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import pytest

_SCOPES: Mapping[str, type[pytest.Collector]] = {
    "session": pytest.Session,
    "package": pytest.Package,
    "module": pytest.Module,
    "class": pytest.Class,
}


class _Sets:
    """Disjoint sets of items by number (union-find)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        """The lower number stays the root, so that every worker names the set alike."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


def group_dependencies(items: Sequence[pytest.Item]) -> int:
    """Give each connected component of dependencies one xdist group, and return how many there are.

    Groups that its members had before become part of it, with all their other members.
    """
    linked = {index: mark for index, item in enumerate(items) if (mark := item.get_closest_marker("dependency"))}
    if not any(mark.kwargs.get("depends") for mark in linked.values()):
        return 0
    names = {key: index for index, mark in linked.items() for key in _names(items[index], mark)}
    sets = _Sets(len(items))
    for index, mark in linked.items():
        for key in _wanted(items[index], mark):
            if key in names:
                sets.join(index, names[key])
    _join_groups(items, sets)
    return _mark(items, sets, linked)


def _join_groups(items: Sequence[pytest.Item], sets: _Sets) -> None:
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        for name in _groups(item):
            sets.join(first.setdefault(name, index), index)


def _mark(items: Sequence[pytest.Item], sets: _Sets, linked: Iterable[int]) -> int:
    members: dict[int, list[int]] = {}
    for index in range(len(items)):
        members.setdefault(sets.root(index), []).append(index)
    count = 0
    for root in sorted({sets.root(index) for index in linked}):
        if len(members[root]) < 2:
            continue
        count += 1
        # xdist joins the names of all groups of an item, so every member needs them all.
        names = {name for index in members[root] for name in _groups(items[index])} or {f"dependencies-{count}"}
        for index in members[root]:
            for name in sorted(names.difference(_groups(items[index]))):
                items[index].add_marker(pytest.mark.xdist_group(name))
    return count


def _groups(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("xdist_group"):
        yield str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))


def _names(item: pytest.Item, mark: pytest.Mark) -> Iterator[Hashable]:
    """The names that pytest-dependency 0.6 registers the item's outcome under, each in its scope."""
    for scope, kind in _SCOPES.items():
        if (node := item.getparent(kind)) is not None:
            yield node, mark.kwargs.get("name") or _default_name(item.nodeid, scope)


def _wanted(item: pytest.Item, mark: pytest.Mark) -> Iterator[Hashable]:
    node = item.getparent(_SCOPES.get(mark.kwargs.get("scope", "module"), pytest.Module))
    for name in mark.kwargs.get("depends") or ():
        yield node, name


def _default_name(nodeid: str, scope: str) -> str:
    cuts = {"module": 1, "class": 2}
    return nodeid.split("::", cuts[scope])[-1] if scope in cuts else nodeid


def tell_dependency(item: pytest.Item, plain_id: str, report: pytest.TestReport) -> None:
    """Register an outcome by the item's own node id too.

    xdist appends ``@group`` to node ids, and pytest-dependency takes those for names: ``depends=["test_a"]`` would find
    nothing.
    """
    mark = item.get_closest_marker("dependency")
    if plain_id == item.nodeid or mark is None or mark.kwargs.get("name"):
        return
    import pytest_dependency

    for scope in _SCOPES:
        manager = pytest_dependency.DependencyManager.getManager(item, scope=scope)
        if manager is not None:
            manager.addResult(_Named(plain_id), None, report)


class _Named:
    """All that pytest-dependency reads of an item."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid
