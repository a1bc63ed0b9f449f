"""The scripts that jobs of this phase run."""

from __future__ import annotations

from pathlib import Path


def payload(name: str) -> str:
    """Return the text of a script in ``payloads/``."""
    return (Path(__file__).parent / "payloads" / name).read_text(encoding="utf-8")
