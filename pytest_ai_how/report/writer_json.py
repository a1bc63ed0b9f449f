"""``report.json``: the model as it is, written so that no reader ever sees half of it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from pytest_ai_how.errors import RecordError
from pytest_ai_how.report.model import SCHEMA_VERSION, RunReport

NAME = "report.json"


def write_atomically(path: Path, content: str) -> None:
    """Write ``content`` beside ``path``, sync it and rename it: after a crash the old file or the new one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(report: RunReport, folder: Path) -> Path:
    """Write ``report.json`` into the run's folder (made if need be) and return its path."""
    path = folder / NAME
    write_atomically(path, report.model_dump_json(indent=1) + "\n")
    return path


def load_report(path: Path) -> RunReport:
    """Read ``report.json``, or the one in a run's folder.

    Raises :class:`RecordError` naming the file when it is not there, is no report, or has another schema version.
    """
    file = path / NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
        raw = json.loads(text)
    except FileNotFoundError:
        raise RecordError(str(file), "no such report", cure="name a folder in reports/ or its report.json") from None
    except (OSError, ValueError) as error:
        raise RecordError(str(file), f"cannot be read: {error}", expected="a report in JSON") from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(
            str(file),
            f"schema_version is {version!r}",
            expected=str(SCHEMA_VERSION),
            cure="read it with the version of pytest-ai-how that wrote it",
        )
    try:
        return RunReport.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(str(file), f"{where}: {first['msg']}", expected="a report in JSON") from error
