"""By testinfra, over its own ssh backend, as its documentation shows it: the fixture ``host``, once a machine."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from tests.bench.fleet.twenty import TWENTY


@pytest.mark.parametrize(("name", "argv", "wanted"), TWENTY, ids=[one[0] for one in TWENTY])
def test_one_machine(host: Host, name: str, argv: tuple[str, ...], wanted: str) -> None:
    """The machine says what is expected of it."""
    said = host.check_output(" ".join(["%s"] * len(argv)), *argv)
    assert re.search(wanted, said), f"{host.backend.hostname}: {name} is {said!r}, expected {wanted}"
