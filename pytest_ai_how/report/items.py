"""The parts that a check's result is made of, as frozen models that survive JSON and xdist."""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Item(BaseModel):
    """Settings that all parts of a report share."""

    # Refused values may be NaN or infinite; JSON has no number for those.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Attachment(Item):
    """A piece of evidence. ``truncated_from`` is its original size in bytes when only head and tail were kept."""

    name: str
    kind: str = "text/plain"
    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    truncated_from: int | None = None

    @classmethod
    def of(cls, name: str, data: bytes, *, kind: str = "text/plain", truncated_from: int | None = None) -> Attachment:
        """Make an attachment of bytes: text stays readable, anything else becomes base64."""
        try:
            return cls(name=name, kind=kind, content=data.decode(), truncated_from=truncated_from)
        except UnicodeDecodeError:
            text = base64.b64encode(data).decode()
            return cls(name=name, kind=kind, content=text, encoding="base64", truncated_from=truncated_from)

    @property
    def data(self) -> bytes:
        """The content as bytes."""
        return base64.b64decode(self.content) if self.encoding == "base64" else self.content.encode()

    @property
    def size(self) -> int:
        """Bytes of content, blanks at both ends not counted: an empty output is no evidence."""
        return len(self.data.strip())

    @property
    def size_note(self) -> str:
        """Say that the attachment was cut, or nothing."""
        return f"head and tail of {self.truncated_from} bytes" if self.truncated_from is not None else ""


class Step(Item):
    """One step of a check; ``attachments`` are indexes into the check's attachments, ``started`` is Unix time."""

    text: str
    ok: bool
    started: float
    seconds: float
    attachments: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()


class Measurement(Item):
    """A figure and what it was judged against.

    ``verdict`` is ``ok``, ``exceeded`` (outside the limit), ``invalid`` (not a number, or more than physics allows),
    ``recorded`` (the metric has no limit) or ``ceiling`` (a physical ceiling measured in this run). ``limit`` is the
    limit in words, ``where`` its file:line, ``source`` where its number comes from, ``fraction`` value / ceiling.
    ``stretch`` says whether the goal beyond the limit was reached, if there is one.
    """

    metric: str
    value: float
    unit: str
    node: str = ""
    samples: int = 1
    ceiling: float | None = None
    fraction: float | None = None
    limit: str = ""
    where: str = ""
    source: str = ""
    verdict: Literal["ok", "exceeded", "invalid", "recorded", "ceiling"] = "recorded"
    stretch: Literal["", "met", "missed"] = ""
    reason: str = ""
