"""Small parts of the suites that train: curves, lines that tell of errors, whole files."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from suites.mlops._curves import chart
from suites.mlops._lines import bad_lines
from suites.mlops._trainer import PAYLOADS


def test_a_chart_is_drawn() -> None:
    text = chart("loss <1>", "epoch", "mean loss", {"a": [(1, 4.0), (2, 2.0), (3, float("nan"))], "b": [(1, 1.0)]})
    root = ElementTree.fromstring(text)
    lines = [one.attrib["points"].split() for one in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(one) for one in lines] == [2, 1]
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in lines[0])
    assert x1 < x2
    assert y1 < y2, "down is up in SVG"
    assert "loss <1>" in [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    with pytest.raises(ValueError, match="loss: nothing to draw"):
        chart("loss", "x", "y", {"a": [(1, float("inf"))]})


@pytest.mark.parametrize(
    "text",
    [
        "epoch 1: loss 0.1\n",
        "INFO:    gocryptfs not found, will not be able to use gocryptfs\n",
        "0 errors, 0 warnings\nusing error-feedback compression\n",
        "mean_error: 0.5\n",
    ],
)
def test_lines_that_are_well(text: str) -> None:
    assert bad_lines(text) == ()


@pytest.fixture
def payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PAYLOADS))
    for name in ("files", "stage"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("payloads")
def test_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    import files  # type: ignore[import-not-found]

    assert files.latest(tmp_path) == (0, b"")
    files.save(tmp_path, 1, b"one")
    files.save(tmp_path, 2, b"two")
    assert files.latest(tmp_path) == (2, b"two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2.pt", "checkpoint.json"]
    # Killed between the two writes: the former is still the latest.
    files.write(tmp_path / "checkpoint-3.pt", b"three")
    assert files.latest(tmp_path) == (2, b"two")


@pytest.mark.usefixtures("payloads")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "checkpoint-2.pt").write_bytes(b"twx"), "has the SHA-256"),
        (lambda folder: (folder / "checkpoint-2.pt").unlink(), "No such file"),
        (lambda folder: (folder / "checkpoint.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text('{"epoch": 2}'), "cannot be read"),
    ],
)
def test_a_checkpoint_that_is_not_what_was_written(tmp_path: Path, spoil: object, message: str) -> None:
    import files

    files.save(tmp_path, 2, b"two")
    assert callable(spoil)
    spoil(tmp_path)
    with pytest.raises(files.BadCheckpoint, match=message):
        files.latest(tmp_path)


@pytest.mark.usefixtures("payloads")
def test_a_file_of_a_package_is_staged_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib/bricks"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('imported')")
    (package / "data/x.csv").write_bytes(b"1,2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    import stage  # type: ignore[import-not-found]

    stage.stage("the-bricks", "bricks/data/x.csv", str(tmp_path / "y.csv"))
    assert (tmp_path / "y.csv").read_bytes() == b"1,2\n"
    with pytest.raises(
        SystemExit, match="ModuleNotFoundError: the-stones is not installed here, which brings stones/x"
    ):
        stage.stage("the-stones", "stones/x", str(tmp_path / "z"))
