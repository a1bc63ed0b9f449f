"""HTTP interfaces of daemons, asked on a machine of the cluster: nothing but it need reach them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result

T = TypeVar("T")

# Seconds that one answer may take; Prometheus ends a query after 120, but none of ours looks at much.
WITHIN = 20.0
# A proxy of the site must not see what goes on inside the cluster; brackets in a query are no ranges of curl's.
_CURL = ("curl", "--silent", "--show-error", "--globoff", "--noproxy", "*", "--max-time", f"{WITHIN:g}")
_STATUS = "\n%{http_code}"


class ApiError(AiHowError):
    """An HTTP interface did not answer, or not as it is documented."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: ``status`` is that of HTTP, 0 where nothing answered."""

    url: str
    status: int
    body: str
    result: Result

    @property
    def said(self) -> str:
        """The answer in a few words."""
        if not self.status:
            return f"does not answer: {self.result.stderr.strip() or f'curl exited with {self.result.returncode}'}"
        return f"answers with {self.status}: {' '.join(self.body.split())[:200] or 'nothing'}"

    def read(self, parse: Callable[[Any], T]) -> T:
        """What ``parse`` makes of the JSON. Raises :class:`ApiError` for another status, or for another shape."""
        if not 200 <= self.status < 300:
            raise ApiError(self.result.node, f"{self.url} {self.said}", expected="status 200")
        try:
            return parse(json.loads(self.body))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ApiError(
                self.result.node, f"{self.url} said {self.body[:120]!r} ({type(error).__name__}: {error})"
            ) from error


def ask(
    node: Node,
    url: str,
    *,
    query: Mapping[str, str] | None = None,
    body: object = None,
    method: str = "",
    secret: str = "",
) -> Reply:
    """Ask for ``url`` on ``node``: with a ``query``, or by POST with a ``body`` as JSON.

    ``secret`` is more of curl's configuration, such as a header with a token; it is neither seen by who lists
    processes nor part of the evidence. Raises no error for an answer that does not come: see :attr:`Reply.status`.
    """
    words = [*_CURL, "--write-out", _STATUS]
    given = [f"{key}={value}" for key, value in (query or {}).items()]
    if given:
        words += ["--get", *(word for pair in given for word in ("--data-urlencode", pair))]
    if body is not None:
        words += ["--header", "Content-Type: application/json", "--data-raw", json.dumps(body)]
    if method:
        words += ["--request", method]
    if secret:
        words += ["--config", "-"]
    result = node.run(*words, url, check=False, timeout=WITHIN + 10.0, input=secret)
    content, _, status = result.stdout.rpartition("\n")
    return Reply(url, int(status) if status.isdigit() else 0, content, result)
