"""Copies of consoles that outlive their machines, and errors that name those in place of what goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pytest_ai_how.errors import AiHowError

# Bytes of a console that are kept: a boot and much more of a machine that does not repeat itself for ever.
_MOST = 2**20
# Bytes before those that are looked at as well: a secret whose beginning was cut off is not known for one.
_BEFORE = 64 * 2**10


def copy_of(node: str, folder: Path) -> Path:
    """Where :func:`keep` puts the console of ``node``."""
    return folder / f"{node}.log"


def keep(consoles: Mapping[str, Path], folder: Path, clean: Callable[[bytes], bytes]) -> None:
    """Copy the end of each console that is there to ``folder``, ``clean`` of secrets; without any, make no folder.

    Raises :class:`OSError` where that can't be done.
    """
    for node, console in consoles.items():
        if not console.exists():  # the machine was never started
            continue
        with console.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _MOST - _BEFORE))
            said = clean(file.read(_MOST + _BEFORE))
        folder.mkdir(parents=True, exist_ok=True)
        copy_of(node, folder).write_bytes(said[-_MOST:])


def name_copies(error: BaseException, consoles: Mapping[str, Path], folder: Path) -> None:
    """Let what ``error`` says to do, and all that led to it, name the copies in ``folder`` instead of the consoles."""
    for one in _with_causes(error, set()):
        if isinstance(one, AiHowError):
            for node, console in consoles.items():
                one.cure = one.cure.replace(str(console), str(copy_of(node, folder)))


def _with_causes(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """An error, those that it groups, and those that it came from; each once, as a chain may be a ring."""
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for one in (*inner, error.__cause__, error.__context__):
        if one is not None:
            yield from _with_causes(one, seen)
