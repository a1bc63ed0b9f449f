"""The consoles of the machines while a test runs: a kernel that dies fails the test, and any failure shows them."""

from __future__ import annotations

import pytest

from pytest_ai_how.drivers.machines.console import crash_in, lengths, said_since
from pytest_ai_how.drivers.machines.outlive import name_copies
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.skin.crew import Crew
from pytest_ai_how.skin.keys import CONSOLES, EVIDENCE


class Watch:
    """Looks at what was appended to the consoles since a test began."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def begin(self, item: pytest.Item) -> None:
        """Remember how long the consoles are before ``item`` runs."""
        item.stash[CONSOLES] = lengths(self._crew.consoles())

    def crash(self, item: pytest.Item) -> str:
        """Which machine's kernel died since ``item`` began, and what it said; empty when none did.

        One that is said is remembered, so that it is said once; a test that is marked ``panics`` wants it so.
        """
        if item.get_closest_marker("panics"):
            return ""
        for node, said in self._said(item).items():
            if line := crash_in(said):
                self.attach(item)
                self.begin(item)
                return f"{node}: its kernel died while the test ran: {line}; see the attached console"
        return ""

    def attach(self, item: pytest.Item) -> None:
        """Keep what the machines said since ``item`` began with its evidence."""
        for node, said in self._said(item).items():
            if EVIDENCE not in item.stash:
                item.stash[EVIDENCE] = Evidence(self._crew.redactor)
            name = f"{node}: console"
            if name not in {one.name for one in item.stash[EVIDENCE].items}:
                item.stash[EVIDENCE].attach(name, said.decode(errors="replace"))

    def name_copies(self, error: BaseException) -> None:
        """Let an error name the consoles that the run keeps: those in the cluster's folder go with the machines."""
        name_copies(error, self._crew.consoles(), self._crew.orders.consoles)

    def _said(self, item: pytest.Item) -> dict[str, bytes]:
        return said_since(self._crew.consoles(), item.stash.get(CONSOLES, {}))
