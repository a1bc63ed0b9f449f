"""Facts as a check uses them: values, with what they were read from as evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pytest_ai_how.facts import Fact, Readings
from pytest_ai_how.report.evidence import Evidence

T = TypeVar("T")


class Facts:
    """What one check reads of machines."""

    def __init__(self, readings: Readings, evidence: Evidence) -> None:
        self._readings, self._evidence = readings, evidence

    def __call__(self, fact: Fact[T], names: Iterable[str] | None = None) -> dict[str, T]:
        """The fact of each machine (default: all), by name, in the order of the file.

        Raises :class:`~pytest_ai_how.errors.FactError` for the first machine on which it can't be known, and an
        :class:`ExceptionGroup` that names the machines that could not be asked.
        """
        results = self._readings.results(fact, names)
        self._evidence.attach(fact.name, "\n\n".join(result.describe(lines=100_000) for result in results.values()))
        return {name: fact.of(result) for name, result in results.items()}
