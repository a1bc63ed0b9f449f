"""Things that a lease can make and undo without touching the machine, and processes to race and to kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pytest_ai_how.lease.lease import Claim, Lease

NAME = "aihowlease"
CLAIM = Claim("fake", "f1", {"name": NAME})


class Widgets:
    """Undoes things that are lines of a file, so that every process sees what was made and unmade."""

    kind = "widget"

    def __init__(self, path: Path) -> None:
        self.path = path

    def undo(self, data: Mapping[str, str], deadline: float) -> None:
        left = [line for line in self._lines() if line != data["name"]]
        self.path.write_text("".join(f"{line}\n" for line in left))

    def remains(self, data: Mapping[str, str]) -> list[str]:
        return [f"widget {line}" for line in self._lines() if line == data["name"]]

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def make(lease: Lease, widgets: Path, name: str, step: str = "machines") -> dict[str, str]:
    lease.journal.of(step).intend("widget", name=name)
    with widgets.open("a") as file:
        file.write(f"{name}\n")
    return {"made": name}


def python(script: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *args], stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10)


def said(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word
