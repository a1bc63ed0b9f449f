"""Figures of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.errors import RecordError
from pytest_ai_how.services.storage.baseline import REMEMBERED, Baseline


def test_the_first_run_has_no_baseline_and_is_none_for_itself(tmp_path: Path) -> None:
    first = Baseline(tmp_path / "deep" / "storage.json", "run1")
    assert first.median("m") is None
    first.keep("m", 10)
    assert first.median("m") is None
    assert Baseline(first.path, "run2").median("m") == 10


def test_the_median_is_over_the_last_runs(tmp_path: Path) -> None:
    path = tmp_path / "storage.json"
    for number in range(REMEMBERED + 5):
        Baseline(path, f"run{number}").keep("m", number)
    later = Baseline(path, "later")
    assert later.median("m") == 9.5
    assert later.describe("m").splitlines()[0] == "run5  5"


def test_a_figure_kept_twice_is_one_figure(tmp_path: Path) -> None:
    baseline = Baseline(tmp_path / "storage.json", "run1")
    baseline.keep("m", 1)
    baseline.keep("m", 3)
    assert Baseline(baseline.path, "run2").median("m") == 3


@pytest.mark.parametrize("text", ["", "[]", '{"m": 3}', '{"m": [["run", "fast"]]}', "{"])
def test_a_damaged_file_is_named_with_its_cure(tmp_path: Path, text: str) -> None:
    path = tmp_path / "storage.json"
    path.write_text(text)
    with pytest.raises(RecordError) as raised:
        Baseline(path, "run1").median("m")
    assert str(raised.value).startswith(f"{path}: no table of figures")
    assert str(raised.value).endswith(f"do: rm {path}; the next run starts a new one")
