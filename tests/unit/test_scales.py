"""Scales are data, held to the models that suites have for their sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import CatalogueError, ConfigError
from pytest_ai_how.scales import Section, load_scale, read_scale
from pytest_ai_how.skin.settings import SCALES


class Work(Section):
    epochs: int
    rate: float


def written(folder: Path, text: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def test_the_scales_that_can_be_chosen_are_those_that_ship() -> None:
    assert {path.stem for path in asset("configs/scales").glob("*.yaml")} == set(SCALES)
    sections = {name: set(load_scale(name)) for name in SCALES}
    assert sections["smoke"]
    assert len({frozenset(names) for names in sections.values()}) == 1, sections


def test_a_section(tmp_path: Path) -> None:
    scale = read_scale("small", written(tmp_path, "work: {epochs: 3, rate: 0.5}\n"), "small.yaml")
    assert scale.section("work", Work) == Work(epochs=3, rate=0.5)
    assert scale.metric("training.seconds") == "training.seconds.small"


def test_mistakes_name_their_lines(tmp_path: Path) -> None:
    scale = read_scale("small", written(tmp_path, "work:\n  epochs: many\n  rat: 1.0\n"), "small.yaml")
    with pytest.raises(ConfigError) as caught:
        scale.section("work", Work)
    text = str(caught.value)
    assert "small.yaml:2: work.epochs: " in text
    assert "small.yaml:3: work.rat: unknown key (did you mean 'rate'?)" in text
    with pytest.raises(CatalogueError, match=r"^small\.yaml: says nothing of 'wrok' \(did you mean 'work'\?\)"):
        scale.section("wrok", Work)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}\n", "has no sections"), ("- a\n", "has no sections"), ("work: 3\n", "small.yaml:1: work: is no mapping")],
)
def test_files_that_are_no_scale(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_scale("small", written(tmp_path, text), "small.yaml")
