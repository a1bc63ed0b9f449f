"""How results travel from the process that ran a test to the controller, and where the rest of the story lies."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pytest_ai_how.report.model import CheckResult

# A larger result goes by file: the channel of xdist is for small things.
INLINE_BYTES = 64 * 1024
_COLLECTION = "collection.json"
_FILE = "file:"


def pack(result: CheckResult, parts: Path) -> str:
    """A result as text for a test report: itself, or the name of a file in ``parts``."""
    text = result.model_dump_json()
    if len(text) <= INLINE_BYTES:
        return text
    handle, name = tempfile.mkstemp(prefix="result-", suffix=".json", dir=parts)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return f"{_FILE}{Path(name).name}"


def unpack(text: str, parts: Path) -> CheckResult:
    """What :func:`pack` packed."""
    if text.startswith(_FILE):
        text = (parts / Path(text.removeprefix(_FILE)).name).read_text(encoding="utf-8")
    return CheckResult.model_validate_json(text)


@dataclass(frozen=True, slots=True)
class Selected:
    """One collected test, as the controller needs it when no result of it arrives."""

    nodeid: str
    ids: tuple[str, ...]
    location: str


@dataclass(frozen=True, slots=True)
class Collection:
    """What a run is about to do: the selected tests by the node id that xdist knows, and what it leaves out.

    ``deselected`` are the node ids of tests that were taken out, by check; ``self_skipped`` say which files with checks
    skipped themselves.
    """

    selected: Mapping[str, Selected]
    deselected: Mapping[str, tuple[str, ...]]
    self_skipped: tuple[str, ...] = ()

    def ids_of(self, nodeid: str) -> tuple[str, ...]:
        """The checks of a selected test; none when it is not known."""
        return self.selected[nodeid].ids if nodeid in self.selected else ()

    def write(self, parts: Path) -> None:
        """Write it down, unless another worker has: all collect the same."""
        target = parts / _COLLECTION
        if target.exists():
            return
        data = {
            "selected": {nodeid: asdict(one) for nodeid, one in self.selected.items()},
            "deselected": dict(self.deselected),
            "self_skipped": self.self_skipped,
        }
        handle, name = tempfile.mkstemp(prefix="collection-", dir=parts)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file)
        Path(name).replace(target)

    @classmethod
    def read(cls, parts: Path) -> Collection:
        """Read it; empty when no process got as far."""
        try:
            data = json.loads((parts / _COLLECTION).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls({}, {})
        selected = {
            nodeid: Selected(one["nodeid"], tuple(one["ids"]), one["location"])
            for nodeid, one in data["selected"].items()
        }
        deselected = {check: tuple(nodeids) for check, nodeids in data["deselected"].items()}
        return cls(selected, deselected, tuple(data["self_skipped"]))
