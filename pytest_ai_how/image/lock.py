r"""Locks of Python packages: each in one version, with the digests of the files that may be taken for it.

What is read is the part of pip's requirements file format that ``uv pip compile --generate-hashes`` (0.13) writes::

    # Compiled from packages.in
    torch==2.13.0+cpu \
        --hash=sha256:8e9c60d6… \
        --hash=sha256:f1d25e01…

Several digests are several files of one version: for other machines, or the builds of several indexes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import ImageError

_CURE = "compile it anew: its first lines say how"
# Names and versions as PEP 508 and PEP 440 have them; what is compiled for one Python has no markers.
_PACKAGE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Locked:
    """A Python package, by the name that PEP 503 makes of its own, and the line of the lock that names it."""

    name: str
    version: str
    line: int
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """The packages of one lock, in its order."""

    file: Path
    packages: tuple[Locked, ...]

    def where(self, name: str) -> str:
        """``file:line`` of a package, or the file where the lock has no such."""
        lines = {one.name: one.line for one in self.packages}
        return f"{self.file}:{lines[normal(name)]}" if normal(name) in lines else str(self.file)


def normal(name: str) -> str:
    """The name by which a package is known whatever its own spelling (PEP 503).

    >>> normal("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(file: Path) -> Lock:
    """The lock in ``file``. Raises ImageError as ``file:line`` for what is no locked package, or has no digest."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ImageError(str(file), f"can't be read: {error.strerror}", expected="a lock of Python packages") from error
    packages: dict[str, Locked] = {}
    for line, words in _requirements(text):
        found = _PACKAGE.fullmatch(words[0])
        digests = [match[1] for word in words[1:] if (match := _HASH.fullmatch(word))]
        if not found or not digests or len(digests) != len(words) - 1:
            expected = "name==version and its digests, each as --hash=sha256:…"
            raise ImageError(f"{file}:{line}", f"{' '.join(words)[:80]!r}", expected=expected, cure=_CURE)
        one = Locked(normal(found["name"]), found["version"], line, tuple(digests))
        if one.name in packages:
            seen = f"{one.name} is there a second time; the first is in line {packages[one.name].line}"
            raise ImageError(f"{file}:{line}", seen, expected="each package in one version", cure=_CURE)
        packages[one.name] = one
    if not packages:
        raise ImageError(str(file), "names no package", expected="a lock of Python packages", cure=_CURE)
    return Lock(file, tuple(packages.values()))


def _requirements(text: str) -> list[tuple[int, list[str]]]:
    r"""The requirements with the line in which each begins; a line that ends in ``\`` goes on in the next."""
    found: list[tuple[int, list[str]]] = []
    goes_on = False
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        words = said.removesuffix("\\").split()
        if goes_on:
            found[-1][1].extend(words)
        elif words:
            found.append((number, words))
        goes_on = said.endswith("\\")
    return found
