"""The cache of data sets: files that were downloaded once, each held to its digest whenever it is used."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pytest_ai_how.data.declared import PATIENCE, DataError, asked, keep, kept
from pytest_ai_how.data.manifest import DataSet, File
from pytest_ai_how.lease.locks import Locks
from pytest_ai_how.lease.state import cache_home
from pytest_ai_how.progress import Progress

_CHUNK = 1024 * 1024
#: Seconds between two lines that say how far a download has come.
_EVERY = 5.0
_LOCK = "fill.lock"


class Cache:
    """A folder with a folder for each data set (default: below ``$XDG_CACHE_HOME``).

    A file has its name only when it is whole and has its digest. What was interrupted lies beside it as
    ``.NAME.part``, and the next time goes on from there, if the server can.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_home() / "data"

    def path(self, name: str, file: File) -> Path:
        """Where a file of data set ``name`` lies, or would."""
        return self.folder / name / file.name

    def known(self, name: str, data: DataSet) -> DataSet:
        """A data set with what was declared of its files, as far as it was kept. Raises :class:`DataError`."""
        return data.model_copy(update={"files": tuple(self._known(name, file) for file in data.files)})

    def _known(self, name: str, file: File) -> File:
        if not file.declared:
            return file
        found = kept(self.folder / name).get(file.name)
        # What was declared of another commit says nothing of this one.
        return found.of(file) if found and found.url == file.url else file

    def faults(self, name: str, data: DataSet) -> tuple[str, ...]:
        """What is missing or wrong, a line a file; everything is read. Files of packages are not looked for."""
        files = self.known(name, data).downloads
        found = ((file, _fault(self.path(name, file), file)) for file in files)
        return tuple(f"{self.path(name, file)}: {fault}" for file, fault in found if fault)

    def whole(self, name: str, data: DataSet) -> tuple[Path, ...]:
        """The files of a data set, each with its digest. Raises :class:`DataError` naming the first that is not so."""
        if faults := self.faults(name, data):
            where, _, seen = faults[0].partition(": ")
            raise DataError(where, seen, expected=f"data set {name!r}", cure=f"pytest-ai-how cache fill {name}")
        return tuple(self.path(name, file) for file in data.downloads)

    def read(self, name: str, file: File) -> bytes:
        """The content of one file, with its digest. Raises :class:`DataError` where it is not so."""
        path = self.path(name, file)
        if fault := _fault(path, self._known(name, file)):
            raise DataError(str(path), fault, expected=f"data set {name!r}", cure=f"pytest-ai-how cache fill {name}")
        return path.read_bytes()

    def fill(self, name: str, data: DataSet, progress: Progress) -> tuple[Path, ...]:
        """Download what is missing or wrong. Two that fill at once wait for each other. Raises :class:`DataError`."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        with Locks(folder).hold(_LOCK):
            for file in self.known(name, data).downloads:
                if not file.sha256:
                    file = self._declared(name, file, progress)  # noqa: PLW2901  the same, with its digest
                path = self.path(name, file)
                if fault := _fault(path, file):
                    progress.say(f"{name}: {file.name}", f"downloading {file.bytes / 2**20:.1f} MiB ({fault})")
                    path.unlink(missing_ok=True)
                    _download(file, path, progress)
        return self.whole(name, data)

    def _declared(self, name: str, file: File, progress: Progress) -> File:
        """Ask the origin for the digest of a file and keep it, for all times after."""
        found = asked(file)
        progress.say(f"{name}: {file.name}", f"its origin declares the SHA-256 {found.sha256}, which is kept")
        keep(self.folder / name, file.name, found)
        return found.of(file)


def _fault(path: Path, file: File) -> str:
    """What is wrong with a file; empty when it is as it should be."""
    if not file.sha256:
        return "has no digest yet: its origin declares it at the first fill"
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"has {size} bytes, expected {file.bytes}"
        return "" if (found := digest(path)) == file.sha256 else f"has the SHA-256 {found}, expected {file.sha256}"
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(file: File, path: Path, progress: Progress) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        with _answer(file, _resumable(part, file)) as (answer, start), part.open("r+b" if start else "wb") as target:
            target.seek(start)
            _copy(answer, target, file, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        cure = f"try again; or put it there by other means: {path} (SHA-256 {file.sha256})"
        raise DataError(file.url, f"could not be had: {reason}", cure=cure) from error
    if fault := _fault(part, file):
        short = part.stat().st_size < file.bytes
        if not short:  # what is short goes on the next time
            part.unlink()
        raise DataError(
            file.url,
            f"what came {fault}",
            expected=f"{file.name} as {file.bytes} bytes with that digest",
            cure="try again" if short else "don't use what that server gives",
        )
    part.replace(path)


def _resumable(part: Path, file: File) -> int:
    """How many bytes of an interrupted download there are; none of one that is too long to be it."""
    size = part.stat().st_size if part.exists() else 0
    return size if size < file.bytes else 0


@contextmanager
def _answer(file: File, start: int) -> Iterator[tuple[IO[bytes], int]]:
    """The server's answer from byte ``start`` on, or from the first where it does not do parts (RFC 9110, 14.2)."""
    request = urllib.request.Request(file.url)  # noqa: S310  the scheme is judged below
    if request.type not in ("http", "https"):
        raise DataError(file.url, f"the scheme {request.type!r} is not used", expected="http or https")
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE)  # noqa: S310
    except urllib.error.HTTPError as error:
        if not start or error.code != 416:
            raise
        error.close()
        answer = urllib.request.urlopen(urllib.request.Request(file.url), timeout=PATIENCE)  # noqa: S310
    with answer:
        yield answer, start if answer.status == 206 else 0


def _copy(answer: IO[bytes], target: IO[bytes], file: File, progress: Progress) -> None:
    """Copy, but no more than one byte too many: who sends for ever fills no disk."""
    said = time.monotonic()
    while chunk := answer.read(min(_CHUNK, file.bytes + 1 - target.tell())):
        target.write(chunk)
        if time.monotonic() - said > _EVERY:
            said = time.monotonic()
            progress.say(file.name, f"{100 * target.tell() / file.bytes:.0f} % of {file.bytes / 2**20:.1f} MiB")
    target.truncate()
