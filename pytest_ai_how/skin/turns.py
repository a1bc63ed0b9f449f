"""Who runs beside whom: what a test uses, what it wants alone, and its place in the order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from pytest_ai_how.bringup import SERVICES


@dataclass(frozen=True, slots=True)
class Use:
    """What one test wants: the whole cluster alone, or each service that it uses alone (true) or shared."""

    alone: bool
    services: Mapping[str, bool]

    @property
    def alone_with(self) -> tuple[str, ...]:
        """The services that it wants for itself, while others may use the rest of the cluster."""
        return () if self.alone else tuple(name for name, alone in self.services.items() if alone)


def use_of(item: pytest.Item, required: Iterable[str], disruptive: bool) -> Use:
    """What ``item`` uses: the services among its fixtures and the capabilities that it requires, and what it says.

    A mark ``exclusive`` without a name, or breaking something without saying of which service, means all of it.
    """
    mark = item.get_closest_marker("exclusive")
    wanted = mark.args if mark else ()
    used = {*getattr(item, "fixturenames", ()), *required} & SERVICES.keys()
    used |= {str(name) for one in item.iter_markers("uses") for name in one.args}
    alone = not wanted and (mark is not None or disruptive)
    return Use(alone, {name: name in wanted for name in sorted(used | set(wanted))})


def group_those_alone(items: Sequence[pytest.Item]) -> None:
    """One xdist worker for all that want the same services alone: the others would only wait for it."""
    for item in items:
        mark = item.get_closest_marker("exclusive")
        if mark and mark.args and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(f"alone-with-{'-'.join(sorted(mark.args))}"))


def rank(use: Use, disruptive: bool, wanted_alone: Collection[str]) -> tuple[int, bool]:
    """A test's place among those of its phase; ``wanted_alone`` are the services that any test wants for itself.

    Those come first that share such a service, then those that want it, beside which the rest can run. Who wants the
    whole cluster comes after all who share it, so that several workers do, and what breaks something last.
    """
    if use.alone:
        return 3, disruptive
    if use.alone_with:
        return 1, disruptive
    return (0 if use.services.keys() & wanted_alone else 2), disruptive
