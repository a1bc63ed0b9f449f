"""What the origin of a file declares of its content, where nobody else has published a digest: asked once, then kept.

Hugging Face's hub answers for a large file at a commit with ``X-Repo-Commit``, ``X-Linked-Etag`` (its SHA-256, by which
Git LFS knows it) and ``X-Linked-Size``, before it sends one on to where the content lies.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pytest_ai_how.data.manifest import Bytes, File, Sha256
from pytest_ai_how.errors import AiHowError

#: Seconds in which a server must say something.
PATIENCE = 30.0
#: The file of a data set's folder that keeps what was declared.
KEPT = "declared.json"


class DataError(AiHowError):
    """A file of a data set is not there, is not what the manifest says, or could not be had."""


class Declared(BaseModel):
    """What an origin declared of the file at an address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    sha256: Sha256
    bytes: Bytes

    def of(self, file: File) -> File:
        """The file, with what is known of it."""
        return file.model_copy(update={"sha256": self.sha256, "bytes": self.bytes})


_KEPT: TypeAdapter[dict[str, Declared]] = TypeAdapter(dict[str, Declared])


def kept(folder: Path) -> Mapping[str, Declared]:
    """What was declared of the files in a folder, by name. Raises :class:`DataError` where the record is no record."""
    path = folder / KEPT
    try:
        return _KEPT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise DataError(
            str(path),
            f"cannot be read: {str(error).splitlines()[0]}",
            expected="what the origin declared at the first fill",
            cure=f"rm {path}, and fill anew: the origin is believed once more",
        ) from error


def keep(folder: Path, name: str, declared: Declared) -> None:
    """Keep what was declared of the file ``name``."""
    new = folder / f".{KEPT}.new"
    new.write_bytes(_KEPT.dump_json({**kept(folder), name: declared}, indent=1))
    new.replace(folder / KEPT)


def asked(file: File) -> Declared:
    """What the origin declares now. Raises :class:`DataError` where it does not, or of another commit."""
    said = _headers(file)
    commit = said.get("X-Repo-Commit", "")
    if commit != file.commit:
        raise DataError(
            file.url, f"the origin speaks of commit {commit or 'none'}", expected=f"X-Repo-Commit: {file.commit}"
        )
    digest, size = said.get("X-Linked-Etag", "").strip('"'), said.get("X-Linked-Size", "")
    try:
        return Declared(url=file.url, sha256=digest, bytes=int(size))
    except ValueError as error:
        raise DataError(
            file.url,
            f"the origin declares no digest: X-Linked-Etag {digest!r}, X-Linked-Size {size!r}",
            expected="a SHA-256 of 64 hexadecimal digits, and a size in bytes",
        ) from error


class _Here(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: what is declared comes with the first answer, not from where the content lies."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: http.client.HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        return None


def _headers(file: File) -> Message:
    if not re.match(r"https?:", file.url):
        scheme = urllib.parse.urlsplit(file.url).scheme
        raise DataError(file.url, f"the scheme {scheme!r} is not used", expected="http or https")
    request = urllib.request.Request(file.url, method="HEAD")  # noqa: S310  http or https alone
    try:
        with urllib.request.build_opener(_Here).open(request, timeout=PATIENCE) as answer:
            return Message() if answer.headers is None else answer.headers
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (301, 302, 303, 307, 308):
                return error.headers
            raise DataError(file.url, f"could not be asked: {error.code} {error.reason}", cure="try again") from error
    except (OSError, http.client.HTTPException) as error:
        raise DataError(file.url, f"could not be asked: {getattr(error, 'reason', error)}", cure="try again") from error
