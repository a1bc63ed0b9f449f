"""Each broken sample gives exactly the problems that its last lines list, in that order, quickly, and makes no file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "data" / "config" / "broken"
SAMPLES = sorted(FOLDER.glob("*.yaml"))
ENVIRON = {"NODES": "2", "EMPTY": "", "EVIL": "a: b\nc: [d]", "CLUSTER": "t"}
MARK = b"# expect: "


def expected(sample: Path) -> list[str]:
    """``3: key: what`` becomes ``<file>:3: key: what``; a line without a number is about the file as a whole."""
    told = [line.removeprefix(MARK).decode() for line in sample.read_bytes().splitlines() if line.startswith(MARK)]
    return [f"{sample}:{line}" if line[0].isdigit() else f"{sample}: {line}" for line in told]


def test_there_are_enough_samples() -> None:
    assert len(SAMPLES) >= 25
    assert all(expected(sample) for sample in SAMPLES), "a sample without '# expect:' lines proves nothing"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_sample(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_config(str(sample), environ=ENVIRON)
    assert [str(problem) for problem in caught.value.problems] == expected(sample)
    assert str(caught.value).splitlines() == expected(sample)
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert list(tmp_path.iterdir()) == []
    # A hang guard, not a figure: an alias bomb followed to its end takes hours.
    assert time.monotonic() - started < 10
