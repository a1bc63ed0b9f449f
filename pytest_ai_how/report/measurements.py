"""Figures that a check measures: recorded first, judged after."""

from __future__ import annotations

import math

from pytest_ai_how.limits import Judgement, Limits
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.items import Measurement

_VERDICTS = {"pass": "ok", "fail": "exceeded", "invalid": "invalid", "recorded": "recorded"}


class LimitExceeded(AssertionError):
    """A figure is outside its limit: the check has failed."""


class InvalidMeasurement(AssertionError):
    """A figure cannot be true (no number, no samples, or more than physics allows): nothing was proven."""


class Measurements:
    """The figures of one check, judged by ``limits``.

    With ``evidence``, messages name the attachment made last: where the raw output of the measurement is.
    """

    def __init__(self, limits: Limits, evidence: Evidence | None = None) -> None:
        self.limits, self._evidence = limits, evidence
        self._items: list[Measurement] = []

    @property
    def items(self) -> tuple[Measurement, ...]:
        """All figures, in the order they were measured, refused ones included."""
        return tuple(self._items)

    def measure(
        self, metric: str, value: float, unit: str, *, node: str = "", ceiling: float | None = None, samples: int = 1
    ) -> Measurement:
        """Record ``value`` and judge it.

        ``ceiling`` is the physical ceiling in the same unit, measured in the same run; without it the one that
        :meth:`ceiling` recorded for this node is taken. Raises :class:`LimitExceeded` outside the limit,
        :class:`InvalidMeasurement` for what cannot be true, and :class:`CatalogueError` for an unknown metric,
        another unit, or a limit that needs a ceiling that nobody measured.
        """
        limit = self.limits.require(metric, unit)
        if ceiling is None and limit.of:
            ceiling = self._measured(limit.of, node)
        figure = Measurement(metric=metric, value=value, unit=unit, node=node, ceiling=ceiling, samples=samples)
        self._items.append(figure)
        if nothing := _nothing(value, unit, samples):
            self._refuse(figure, nothing)
        judgement = self.limits.judge(metric, value, unit, ceiling=ceiling)
        self._items[-1] = judged = _judged(figure, judgement)
        if judgement.invalid:
            raise InvalidMeasurement(self._message(judged))
        if not judgement.ok:
            raise LimitExceeded(self._message(judged))
        return judged

    __call__ = measure  # checks write `measure("storage.seq_write", value, "MiB/s")`

    def ceiling(self, metric: str, value: float, unit: str, *, node: str = "") -> Measurement:
        """Record a physical ceiling measured in this run, for the metrics whose limit is a fraction of it.

        Raises :class:`InvalidMeasurement` unless it is a finite number above zero.
        """
        limit = self.limits.require(metric, unit)
        figure = Measurement(
            metric=metric,
            value=value,
            unit=unit,
            node=node,
            where=self.limits.where(metric),
            source=limit.source,
            verdict="ceiling",
        )
        self._items.append(figure)
        if nothing := _nothing(value, unit, 1):
            self._refuse(figure, nothing)
        if value == 0:
            self._refuse(figure, "a ceiling of zero bounds nothing")
        return figure

    def _measured(self, metric: str, node: str) -> float | None:
        found = [item.value for item in self._items if (item.metric, item.node) == (metric, node)]
        return found[-1] if found else None

    def _refuse(self, figure: Measurement, reason: str) -> None:
        words = f"{figure.metric} is {figure.value:.6g} {figure.unit}: {reason}"
        refused = figure.model_copy(update={"verdict": "invalid", "reason": words})
        self._items[-1] = refused
        raise InvalidMeasurement(self._message(refused))

    def _message(self, figure: Measurement) -> str:
        where = f"{figure.node}: " if figure.node else ""
        attached = self._evidence.items[-1:] if self._evidence else ()
        see = f"; see attachment {attached[0].name!r}" if attached else ""
        return f"{where}{figure.reason}{see}"


def _nothing(value: float, unit: str, samples: int) -> str:
    """Why a value is no measurement, whatever its limit says."""
    if samples < 1:
        return "it has no samples; nothing was measured"
    if not math.isfinite(value):
        return "not a number, which is not a measurement"
    if value < 0:
        return "negative, which is not a measurement"
    if value == 0 and unit.endswith("/s"):
        return "nothing was moved, which is not a measurement of speed"
    return ""


def _judged(figure: Measurement, judgement: Judgement) -> Measurement:
    return figure.model_copy(
        update={
            "verdict": _VERDICTS[judgement.outcome],
            "limit": judgement.limit,
            "where": judgement.where,
            "source": judgement.source,
            "fraction": judgement.fraction,
            "stretch": judgement.stretch,
            "reason": judgement.reason,
        }
    )
