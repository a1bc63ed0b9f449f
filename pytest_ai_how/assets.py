"""Where the data that ships with the package lies: ``configs/`` and ``provisioning/``."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def asset(path: str) -> Path:
    """Return the file or folder ``configs/…`` or ``provisioning/…``.

    In a wheel they lie inside the package, in a checkout beside it. Raises :class:`FileNotFoundError` naming the
    path when the installation lacks it.
    """
    for found in (_PACKAGE / path, _PACKAGE.parent / path):
        if found.exists():
            return found
    raise FileNotFoundError(f"{path}: not in this installation of pytest-ai-how; reinstall it")
