"""A folder that is made at a place of the user's choice, and removed with all that is in it.

It is new: nothing of that name was there. A file in it holds a word that only the journal knows as well, and a folder
without it is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pytest_ai_how.errors import HostError, LeaseError
from pytest_ai_how.lease.files import remove_tree

#: The file that tells our folder from others.
MARK = ".pytest-ai-how"
_ELSEWHERE = "name another folder under storage.mount"


def refuse_scratch(path: Path) -> None:
    """Refuse a place where no folder can be made. Raises :class:`HostError` naming it."""
    if os.path.lexists(path):
        raise HostError(
            str(path),
            "exists already",
            expected="a folder that is not there: it is made, and removed with all that is in it",
            cure=f"{_ELSEWHERE}; one that a killed run left goes away by: pytest-ai-how reap",
        )
    above = path.parent
    if not above.is_dir():
        raise HostError(str(above), "no such folder", cure=f"mkdir -p {above}, or {_ELSEWHERE}")
    if above.resolve() != above:
        raise HostError(str(above), f"is reached through a link: it is {above.resolve()}", cure=_ELSEWHERE)
    if not os.access(above, os.W_OK | os.X_OK):
        raise HostError(str(above), "cannot be written", cure=_ELSEWHERE)


def make_scratch(path: Path, token: str, mode: int) -> None:
    """Make the folder ``path`` with our mark in it from its first moment. The journal holds ``token`` already.

    Raises :class:`HostError` where something is there.
    """
    refuse_scratch(path)
    half = _half(path, token)
    try:
        half.mkdir(mode=0o700)
        (half / MARK).write_text(token, encoding="ascii")
        half.chmod(mode)
        half.rename(path)
    except OSError as error:
        raise HostError(str(path), f"could not be made: {error.strerror}", cure=_ELSEWHERE) from error


class Scratch:
    """Undoes ``scratch`` entries: the folder ``path``, if the mark in it holds ``token``."""

    kind = "scratch"

    def undo(self, data: Mapping[str, str], deadline: float) -> None:  # noqa: ARG002  the Undo protocol's signature
        """Remove the folder; refuse to cross a mount."""
        for path in _ours(data):
            # The mark goes last: what was begun is found again when we are killed meanwhile.
            for entry in sorted(path.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    remove_tree(entry)
                elif entry.name != MARK:
                    entry.unlink(missing_ok=True)
            remove_tree(path)

    def remains(self, data: Mapping[str, str]) -> Iterable[str]:
        """The folder, when it is there."""
        return [f"folder {path}" for path in _ours(data)]


def _ours(data: Mapping[str, str]) -> list[Path]:
    path, token = Path(data["path"]), data["token"]
    if not path.is_absolute() or ".." in path.parts or len(token) < 16 or not token.isalnum():
        raise LeaseError(data["path"], "not touched: it is no place where a scratch folder is made")
    half = _half(path, token)  # its name is the token's, so it needs no mark to be known
    return [*([path] if _mark(path) == token else []), *([half] if half.is_dir() and not half.is_symlink() else [])]


def _mark(path: Path) -> str:
    if path.is_symlink() or path.parent.resolve() != path.parent:
        return ""
    with suppress(OSError, ValueError):
        return (path / MARK).read_text(encoding="ascii")
    return ""


def _half(path: Path, token: str) -> Path:
    return path.with_name(f".{path.name}.{token}")
