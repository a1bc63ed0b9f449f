"""What daemons write down: read in a window of time, and told apart from what is known to be harmless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import yaml

from pytest_ai_how.facts import Fact

#: The units whose lines are read.
DAEMONS = ("munge", "mariadb", "slurmdbd", "slurmctld", "slurmd")
#: How Slurm, MUNGE and MariaDB mark what went wrong, and systemd a service that failed.
_WRONG = re.compile(r"\b(?:error|fatal): |\[ERROR\]|\bFailed with result\b", re.IGNORECASE)
#: LogTimeFormat=iso8601_ms of Slurm (the default): the machine's local time, without its zone.
_LOGGED = re.compile(r"\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)\] (.*)")
#: Seconds by which the machines' clocks may be apart (limit of node.clock_offset).
_CLOCKS = 1.0
#: Bytes of a log that are read from its end: a day of a busy node.
_TAIL = 4_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log: when it was written (Unix time), by which unit, and its text."""

    time: float
    unit: str
    text: str

    @property
    def wrong(self) -> bool:
        """Whether it says that something went wrong."""
        return _WRONG.search(self.text) is not None


@dataclass(frozen=True, slots=True)
class Harmless:
    """A line that says ``error`` and is none, of one unit, and why.

    With ``before`` it is none until any unit of any machine has first written a line with that; where none did, it is
    one.
    """

    unit: str
    pattern: re.Pattern[str]
    reason: str
    before: re.Pattern[str] | None = None

    def covers(self, line: Line, written: Sequence[Line]) -> bool:
        """Whether a line is such a one, among all that was ``written`` in the cluster."""
        if line.unit != self.unit or not self.pattern.search(line.text):
            return False
        if self.before is None:
            return True
        first = min((one.time for one in written if self.before.search(one.text)), default=0.0)
        return line.time <= first + _CLOCKS


def journal(since: float) -> Fact[tuple[Line, ...]]:
    """What the daemons of a machine wrote into its journal since a point in Unix time."""
    argv = (
        *("journalctl", "--quiet", "--no-pager", "--output=json"),
        *("--output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT", f"--since=@{int(since)}"),
        *(f"--unit={name}.service" for name in DAEMONS),
    )
    return Fact("the daemons' journal", argv, parse_journal, frozenset({0, 1}))


def parse_journal(text: str) -> tuple[Line, ...]:
    r"""Read ``journalctl --output=json`` (systemd 257): an object a line; what systemd says of a unit is in UNIT.

    >>> parse_journal('{"__REALTIME_TIMESTAMP":"1500000","_SYSTEMD_UNIT":"slurmd.service","MESSAGE":"error: x"}')
    (Line(time=1.5, unit='slurmd', text='error: x'),)
    """
    return tuple(_line(json.loads(line)) for line in text.splitlines() if line.strip())


def _line(entry: Mapping[str, object]) -> Line:
    message = entry.get("MESSAGE") or ""
    # What is no UTF-8 is a list of bytes there (systemd.journal-fields(7)).
    said = bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)
    unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "").removesuffix(".service")
    return Line(int(str(entry["__REALTIME_TIMESTAMP"])) / 1e6, unit, said)


#: The last line of a daemon since the machine booted: without one, nobody writes into the journal.
LAST: Fact[tuple[Line, ...]] = Fact(
    "the daemons' last line",
    (
        *("journalctl", "--quiet", "--no-pager", "--output=json", "--boot", "--lines=1"),
        *(f"--unit={name}.service" for name in DAEMONS),
    ),
    parse_journal,
    frozenset({0, 1}),
    "slurm",
)


def step_log(config: Mapping[str, str], node: str) -> str:
    """The file that slurmd and the steps of a machine write into, by Slurm's configuration: %h and %n are its name."""
    path = config.get("SlurmdLogFile", "").replace("%h", node).replace("%n", node)
    assert path, f"{node}: SlurmdLogFile is not set, so that what steps write is nowhere to be read; expected a file"
    return path


def steps(path: str) -> Fact[tuple[Line, ...]]:
    """What slurmd and its steps wrote into their log: the steps' lines are in no journal."""
    argv = ("sh", "-c", 'date +%z && tail --bytes="$1" -- "$2"', "sh", str(_TAIL), path)
    return Fact(f"{path}", argv, parse_steps)


def parse_steps(text: str) -> tuple[Line, ...]:
    r"""Read the machine's offset from UTC (``date +%z``) and then a log of slurmd (24.11.5), lines of steps alone.

    >>> parse_steps("+0100\n[1970-01-01T01:00:02.500] [12.batch] error: x\n[1970-01-01T01:00:03.000] error: slurmd's")
    (Line(time=2.5, unit='slurmstepd', text='[12.batch] error: x'),)
    """
    zone, *lines = text.splitlines()
    found = [_LOGGED.fullmatch(line) for line in lines]
    if lines and not any(found):
        raise ValueError("no line begins with a time; expected LogTimeFormat=iso8601_ms in slurm.conf")
    return tuple(
        Line(datetime.fromisoformat(f"{one[1]}{zone[:3]}:{zone[3:]}").timestamp(), "slurmstepd", one[2])
        for one in found
        if one and one[2].startswith("[")
    )


@cache
def known_harmless() -> tuple[Harmless, ...]:
    """The lines of ``harmless.yaml``."""
    entries = yaml.safe_load((Path(__file__).parent / "harmless.yaml").read_text(encoding="utf-8"))
    return tuple(
        Harmless(
            one["unit"],
            re.compile(one["line"]),
            one["reason"],
            re.compile(one["before"]) if "before" in one else None,
        )
        for one in entries
    )


def wrong(
    lines: Iterable[Line], since: float, harmless: Iterable[Harmless] = (), written: Sequence[Line] = ()
) -> Iterator[Line]:
    """Those of the lines that say that something went wrong since a point in time, and are not known to be harmless.

    ``written`` is what the whole cluster wrote since then, by which some lines are judged.
    """
    known = tuple(harmless)
    return (
        line
        for line in lines
        if line.time >= since and line.wrong and not any(one.covers(line, written) for one in known)
    )
