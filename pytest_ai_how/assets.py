"""Where the data that ships with the package lies: ``configs/`` and ``provisioning/``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def asset(path: str) -> Path:
    """Return the file or folder ``configs/…`` or ``provisioning/…``, installed or in a checkout.

    Raises :class:`FileNotFoundError` naming the path when the installation lacks it.
    """
    folder, _, rest = path.partition("/")
    spec = find_spec(f"pytest_ai_how.{folder}")
    for location in (spec.submodule_search_locations or []) if spec else []:
        found = Path(location, rest)
        if found.exists():
            return found
    raise FileNotFoundError(f"{path}: not in this installation of pytest-ai-how; reinstall it")
