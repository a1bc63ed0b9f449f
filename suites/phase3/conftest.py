"""Fixtures of phase 3 only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_ai_how.services.storage import Storage


@pytest.fixture
def scratch(request: pytest.FixtureRequest, storage: Storage, run_id: str) -> Iterator[str]:
    """A folder of the check's own on the shared file system, removed afterwards."""
    name = "".join(one if one.isalnum() else "-" for one in request.node.name)[:40].rstrip("-").lower()
    folder = storage.scratch(f"{run_id}-{name}")
    yield folder
    storage.discard(folder)
