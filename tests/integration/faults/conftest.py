"""One cluster for all that is broken here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_ai_how.deadline import Deadline
from suites.phase6 import test_task040_registry as registry

from .live import Live, live_cluster


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The cluster that all tests here break and mend; nothing of it is left afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with live_cluster(tmp_path_factory.mktemp("faults")) as found:
            yield found


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not appear is not waited for by the half minute."""
    monkeypatch.setattr(registry, "Deadline", lambda seconds: Deadline(min(seconds, 2.0)))
