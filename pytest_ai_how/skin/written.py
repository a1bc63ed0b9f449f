"""Which checks have a test, by the text of the files alone: for those that were not collected."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

_MARK = re.compile(r"mark\.check\(([^)]*)\)")
_ID = re.compile(r"[A-Z][A-Z0-9]{2}-\d\d")


def checks_under(path: Path) -> list[str]:
    """The rows that the marks in a file, or in the test files of a folder, name; sorted."""
    files = [path] if path.is_file() else path.rglob("test_*.py")
    marks = (arguments for file in files for arguments in _MARK.findall(file.read_text(encoding="utf-8")))
    return sorted({check for arguments in marks for check in _ID.findall(arguments)})


def written_checks() -> set[str]:
    """The rows for which our own suites have a test."""
    spec = find_spec("pytest_ai_how.suites")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    return {check for root in roots for check in checks_under(Path(root))}
