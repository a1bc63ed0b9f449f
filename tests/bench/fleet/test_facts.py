"""By this product: facts, read in one round trip a machine."""

from __future__ import annotations

import re

import pytest

from pytest_ai_how.facts import Fact
from pytest_ai_how.report.facts import Facts
from tests.bench.fleet.twenty import TWENTY

FACTS = [(Fact(name, argv, str), wanted) for name, argv, wanted in TWENTY]


@pytest.mark.parametrize(
    ("fact", "wanted"), [pytest.param(*one, id=one[0].name, marks=pytest.mark.reads(one[0])) for one in FACTS]
)
def test_all_machines(facts: Facts, fact: Fact[str], wanted: str) -> None:
    """Each machine says what is expected of it."""
    seen = facts(fact)
    assert seen
    for name, said in seen.items():
        assert re.search(wanted, said), f"{name}: {fact.name} is {said!r}, expected {wanted}"
