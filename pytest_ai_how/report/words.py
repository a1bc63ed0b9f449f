"""How figures, times and verdicts are put into words, in one way everywhere."""

from __future__ import annotations

import math
from collections import Counter

from pytest_ai_how.report.items import Measurement
from pytest_ai_how.report.model import RunReport, RunVerdict, Verdict


def number(value: float) -> str:
    """Four significant digits, without an exponent in the range that people read: ``12.35``, ``0.002``, ``184300``."""
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) >= 1e9 or abs(value) < 1e-4):
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}"


def figure(measurement: Measurement) -> str:
    """``storage.seq_write 12.3 MiB/s``, with the node first where there is one."""
    where = f"{measurement.node}: " if measurement.node else ""
    return f"{where}{measurement.metric} {number(measurement.value)} {measurement.unit}".rstrip()


def figure_line(measurement: Measurement) -> str:
    """The figure with its limit, its ceiling and its share of the ceiling."""
    parts = [figure(measurement)]
    if measurement.verdict == "ceiling":
        parts.append("physical ceiling measured in this run")
    if measurement.limit:
        where = f" ({measurement.where})" if measurement.where else ""
        parts.append(f"limit {measurement.limit}{where}")
    if measurement.ceiling is not None:
        share = f", reached {percent(measurement.fraction)}" if measurement.fraction is not None else ""
        parts.append(f"ceiling {number(measurement.ceiling)} {measurement.unit}{share}")
    if measurement.stretch:
        parts.append(f"stretch goal {measurement.stretch}")
    if measurement.verdict in ("exceeded", "invalid"):
        parts.append(measurement.verdict.upper())
    return "; ".join(parts)


def percent(fraction: float | None) -> str:
    """``0.123`` as ``12.3 %``."""
    return "" if fraction is None else f"{number(100 * fraction)} %"


def duration(seconds: float) -> str:
    """``48.2 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(counts: dict[Verdict, int]) -> str:
    """``31 passed, 1 failed, 2 not applicable``: passed first, then the worst first."""
    order = sorted(counts, key=lambda verdict: (verdict is not Verdict.PASSED, list(Verdict).index(verdict)))
    return ", ".join(f"{counts[verdict]} {verdict.words}" for verdict in order if counts[verdict]) or "nothing"


def verdict_line(report: RunReport) -> str:
    """``verdict: UNFIT — 2 of 71 checks failed: node02: …``. A fit one says how much of it all was left out."""
    head = f"verdict: {report.verdict.value.upper()}"
    # Rows and tests that carry no row each count once.
    states = [(state.verdict, state.counts, state.reason) for state in report.rows]
    states += [(result.verdict, True, result.reason) for result in report.results if not result.ids]
    selected = [s for s in states if s[0] not in (Verdict.MISSING, Verdict.NOT_SELECTED)]
    if report.verdict is RunVerdict.FIT:
        passed = sum(1 for verdict, _, _ in selected if verdict is Verdict.PASSED)
        others = Counter(
            verdict.words + ("" if counts else " (informational)")
            for verdict, counts, _ in selected
            if verdict is not Verdict.PASSED
        )
        rest = "".join(f", {count} {words}" for words, count in sorted(others.items()))
        return f"{head} — {passed} of {len(selected)} checks passed{rest}{_left_out(report)}"
    if report.verdict is RunVerdict.UNFIT:
        failed = [reason for verdict, counts, reason in selected if counts and verdict is Verdict.FAILED]
        return f"{head} — {len(failed)} of {len(selected)} checks failed: {first_line(failed[0])}"
    unanswered = [verdict for verdict, counts, _ in selected if counts and verdict.open]
    if unanswered:
        return f"{head} — {len(unanswered)} of {len(selected)} checks have no answer: {first_line(report.reasons[0])}"
    return f"{head} — {first_line(report.reasons[0])}"


def _left_out(report: RunReport) -> str:
    in_part = sum(1 for state in report.rows if state.verdict is Verdict.PASSED and state.reason)
    others = sum(1 for state in report.rows if state.verdict is Verdict.NOT_SELECTED)
    parts = [(in_part, "of them in part"), (others, "not selected")]
    return "".join(f", {count} {words}" for count, words in parts if count)


def first_line(text: str) -> str:
    """The first line of a reason without control characters, or that there is none.

    What a machine said ends up here, and must not steer the terminal it is shown on.
    """
    lines = text.strip().splitlines()
    return "".join(c for c in lines[0] if c.isprintable()) if lines else "no reason given"


def because(verdict: Verdict, reason: str) -> str:
    """``blocked: step 'slurm' failed …``: the verdict and the first line of its reason, the word said once."""
    line = first_line(reason)
    return line if line.startswith(f"{verdict.words}: ") else f"{verdict.words}: {line}"
