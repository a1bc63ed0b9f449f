from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ai_how.lease.lease import Lease


@pytest.fixture
def lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lease]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    lease = Lease.acquire("local", "run1")
    yield lease
    lease.close()
