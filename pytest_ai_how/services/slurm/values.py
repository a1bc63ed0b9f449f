"""The small value formats inside Slurm's ``--json`` output, tolerant of data_parser v0.0.40 to v0.0.42.

A number that may be absent is ``{"set": true, "infinite": false, "number": 60}`` (Slurm 24.11.5), in older parsers a
plain number; a state is a list of flags (``["IDLE", "DRAIN"]``), in older parsers one word.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.shell import Result

#: What slurmdbd stores for "no time" (INFINITE and NO_VAL of slurm.h).
_NO_TIME = frozenset({0, 0xFFFFFFFF, 0xFFFFFFFE})
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}


@dataclass(frozen=True, slots=True)
class ExitCode:
    """How a job ended: the exit status of its script, and the signal that killed it (0: none)."""

    status: int
    signal: int

    def __str__(self) -> str:
        return f"{self.status}:{self.signal}"


def document(result: Result) -> Mapping[str, Any]:
    """Parse what a Slurm command wrote for ``--json``. Raises :class:`AiHowError` when it is no JSON object."""
    try:
        found = json.loads(result.stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        start = result.stdout.strip()[:80] or result.stderr.strip()[:80] or "nothing"
        raise AiHowError(
            result.node,
            f"`{result.command}` answered {start!r}",
            expected="a JSON object",
            cure="check that Slurm has the data_parser and serializer_json plug-ins",
        )
    return found


def number(value: object) -> int | None:
    """Return the number, or None when it is not set or infinite."""
    if isinstance(value, Mapping):
        if not value.get("set", True) or value.get("infinite"):
            return None
        value = value.get("number")
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None


def when(value: object) -> int | None:
    """Return a Unix time in seconds, or None for a time that has not come."""
    found = number(value)
    return None if found is None or found in _NO_TIME else found


def minutes(text: str) -> int | None:
    """Return a time in minutes, of which Slurm begins none that it does not end; None for UNLIMITED.

    >>> [minutes(text) for text in ("90", "01:00:00", "1-00:00:30", "UNLIMITED")]
    [90, 60, 1441, None]
    """
    if text.upper() in {"UNLIMITED", "INFINITE"}:
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if len(parts) == 1 and not days:
        return parts[0]
    if len(parts) != 3:
        raise ValueError(f"{text!r} is no time of Slurm's; expected minutes, [days-]hours:minutes:seconds or UNLIMITED")
    return int(days or 0) * 1440 + parts[0] * 60 + parts[1] + bool(parts[2])


def states(value: object) -> tuple[str, ...]:
    """Return the flags of a state, upper case, the base state first as Slurm writes it."""
    words = value if isinstance(value, list) else str(value or "").replace("+", " ").split()
    return tuple(str(word).upper() for word in words)


def exit_code(value: object) -> ExitCode:
    """Read ``{"return_code": {...}, "signal": {"id": {...}}}``."""
    fields: Mapping[str, Any] = value if isinstance(value, Mapping) else {"return_code": value}
    signal = fields.get("signal") or {}
    return ExitCode(number(fields.get("return_code")) or 0, number(signal.get("id", signal.get("signal_id"))) or 0)


def tres(value: object) -> dict[str, int]:
    """Read trackable resources: ``cpu=1,mem=100M,gres/gpu=1`` or the list that sacct writes.

    Memory is in MiB in both; a ``gres`` of type ``sim`` has its own key ``gres/gpu:sim``.
    """
    if isinstance(value, list):
        return {_tres_name(entry): int(entry.get("count", 0)) for entry in value}
    found: dict[str, int] = {}
    for part in str(value or "").split(","):
        name, _, amount = part.partition("=")
        if amount:
            found[name] = _mebibytes(amount) if name == "mem" else int(float(amount))
    return found


def _tres_name(entry: Mapping[str, Any]) -> str:
    return f"{entry['type']}/{entry['name']}" if entry.get("name") else str(entry["type"])


def _mebibytes(text: str) -> int:
    match = re.fullmatch(r"([\d.]+)([KMGTP]?)", text)
    return int(float(match[1]) * _UNITS[match[2] or "M"] / 1024**2) if match else 0


def gres_count(value: object, name: str = "gpu") -> int:
    """Count one kind of GRES in ``gpu:sim:2(S:0),shard:4``; the count of an entry without number is 1."""
    total = 0
    for entry in re.sub(r"\([^)]*\)", "", str(value or "")).split(","):
        parts = entry.split(":")
        if parts[0] == name:
            total += int(parts[-1]) if parts[-1].isdecimal() else 1
    return total


def hosts(value: object) -> tuple[str, ...]:
    """Expand a host list such as ``node[01-03,07],login``; ``None assigned`` and nothing are no hosts."""
    text = str(value or "")
    if text in {"", "None assigned", "(null)"}:
        return ()
    found: list[str] = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)?", text):
        found += _expand(part)
    return tuple(found)


def _expand(part: str) -> list[str]:
    match = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", part)
    if not match:
        return [part]
    names = []
    for span in match[2].split(","):
        first, _, last = span.partition("-")
        for count in range(int(first), int(last or first) + 1):
            names.append(f"{match[1]}{count:0{len(first)}d}{match[3]}")
    return names
