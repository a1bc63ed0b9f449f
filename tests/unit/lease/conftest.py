from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.undo import Undo
from tests.unit.lease.widgets import CLAIM, NAME, Widgets


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state home of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "pytest-ai-how"


@pytest.fixture
def widgets(tmp_path: Path) -> Path:
    return tmp_path / "widgets"


@pytest.fixture
def undoers(widgets: Path) -> Callable[[str, Path], list[Undo]]:
    return lambda driver, state: [Widgets(widgets)]


@pytest.fixture
def lease(undoers: Callable[[str, Path], list[Undo]]) -> Iterator[Lease]:
    lease = Lease.acquire(NAME, "run1", CLAIM, undoers)
    yield lease
    lease.close()
