"""Figures of earlier runs on this host, to tell a regression from a slow machine."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from pytest_ai_how.errors import RecordError

#: Runs that are remembered for each metric; the median of ten is steady against a noisy one.
REMEMBERED = 10


class Baseline:
    """The last figures of each metric, one a run, in a JSON file: ``{metric: [[run id, value], …]}``.

    A run is never compared with itself. Raises :class:`~pytest_ai_how.errors.RecordError` when the file cannot be read.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id

    def median(self, metric: str) -> float | None:
        """The median of the earlier runs, None when there is none."""
        values = [value for run, value in self._load().get(metric, []) if run != self.run_id]
        return statistics.median(values) if values else None

    def keep(self, metric: str, value: float) -> None:
        """Remember this run's figure, written by rename."""
        figures = self._load()
        others = [pair for pair in figures.get(metric, []) if pair[0] != self.run_id]
        figures[metric] = [*others, (self.run_id, value)][-REMEMBERED:]
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(figures, indent=1))
        fresh.replace(self.path)

    def describe(self, metric: str) -> str:
        """The figures behind :meth:`median`, a line a run."""
        return "\n".join(f"{run}  {value:.4g}" for run, value in self._load().get(metric, []) if run != self.run_id)

    def _load(self) -> dict[str, list[tuple[str, float]]]:
        try:
            loaded = json.loads(self.path.read_text())
            return {metric: [(str(run), float(value)) for run, value in pairs] for metric, pairs in loaded.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            raise RecordError(
                str(self.path), f"no table of figures: {error}", cure=f"rm {self.path}; the next run starts a new one"
            ) from error
