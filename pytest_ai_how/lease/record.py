"""``record.json``: who made the cluster, from what, and which bring-up steps are done."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pytest_ai_how.errors import LeaseError, RecordError
from pytest_ai_how.lease.journal import sync_folder

# A file of another version, or with keys that we don't know, is not guessed at.
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Step:
    """One bring-up step as it went. ``run`` is the run that tried it, ``stamp`` is new each time it was run."""

    __pydantic_config__ = _STRICT
    fingerprint: str
    state: Literal["done", "failed"]
    run: str
    stamp: str
    facts: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run wants the cluster to be: a kept one is used again when driver and fingerprint are the same.

    ``config`` is the configuration as JSON data, so that the command line can work without the YAML.
    """

    __pydantic_config__ = _STRICT
    driver: str = ""
    fingerprint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """The cluster's record.

    ``started`` (UTC, ISO 8601) is for people only. ``boot`` is the kernel's boot id: with another one all processes,
    mounts, interfaces and control groups of the record are gone. ``booted`` is CLOCK_BOOTTIME in seconds at the start.
    ``faults`` are the tests that are putting a fault into the cluster: one that is named here after the run's end has
    not undone it, however it ended.
    """

    __pydantic_config__ = _STRICT
    run: str
    pid: int
    host: str
    boot: str
    started: str
    booted: float
    claim: Claim = Claim()
    kept: bool = False
    version: Literal[1] = 1
    steps: Mapping[str, Step] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    def with_step(self, name: str, step: Step) -> Record:
        """The record after a step."""
        return replace(self, steps={**self.steps, name: step})

    def with_fault(self, test: str) -> Record:
        """The record while ``test`` puts a fault into the cluster."""
        return replace(self, faults=(*self.faults, test))

    def without_fault(self, test: str) -> Record:
        """The record after ``test`` has undone its fault; one that runs twice at once is named twice."""
        at = self.faults.index(test) if test in self.faults else len(self.faults)
        return replace(self, faults=(*self.faults[:at], *self.faults[at + 1 :]))

    @property
    def spoilt(self) -> str:
        """Why nobody may trust the machines, whatever else is well with them; empty when nothing speaks against it."""
        return f"run {self.run} ended while {' and '.join(self.faults)} had put a fault into it" if self.faults else ""

    @property
    def same_boot(self) -> bool:
        """Whether the machine has not been started anew since."""
        return self.boot == boot_id()

    @property
    def age(self) -> float | None:
        """Seconds since the start, whatever the wall clock did; None after a reboot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.booted if self.same_boot else None


def new_record(run: str, claim: Claim) -> Record:
    """A record of a run that starts now, in this process."""
    return Record(
        run=run,
        pid=os.getpid(),
        host=socket.gethostname(),
        boot=boot_id(),
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        booted=time.clock_gettime(time.CLOCK_BOOTTIME),
        claim=claim,
    )


def boot_id() -> str:
    """The kernel's identifier of this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_record(path: Path, record: Record) -> None:
    """Replace the file: at any time, whatever happens, it holds the old record or the new one. Raises LeaseError."""
    content = _adapter().dump_json(record, indent=1)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise LeaseError(str(path), f"cannot be written ({error.strerror})") from error


def read_record(path: Path) -> Record | None:
    """Read the file; None when there is none. Raises :class:`RecordError` naming ``file:line`` for a bad one."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, 1, str(error)) from error
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise _unreadable(path, 1, f"not a record: {key or 'the file'}: {first['msg']}") from error


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def _unreadable(path: Path, line: int, seen: str) -> RecordError:
    return RecordError(
        f"{path}:{line}",
        seen,
        expected="a record as pytest-ai-how writes it",
        cure=f"pytest-ai-how reap --force {path.parent.name} (finds what is left, then sets the file aside)",
    )
