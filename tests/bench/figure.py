"""One figure, and running what is measured."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: ``values`` in ``unit``, one a repetition, and the ``target`` that their median must not exceed.

    None is a figure that others are compared with.
    """

    name: str
    unit: str
    target: float | None
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value: single runs on a shared machine say little."""
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        """Whether the median is within the target."""
        return self.target is None or self.median <= self.target


def environment(env: Mapping[str, str] | None) -> dict[str, str]:
    """Ours with ``env``, and with byte code cached as Python does by default, in a folder that no user's run has."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**plain, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "ai-how-bench-bytecode"), **(env or {})}


def run(*argv: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> tuple[float, str]:
    """Run a command to its end; seconds and standard output. A failure is an error with its output."""
    start = time.monotonic()
    done = subprocess.run(
        argv, cwd=cwd, env=environment(env), capture_output=True, text=True, timeout=1800, check=False
    )
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(
            f"bench: {' '.join(argv)} ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return seconds, done.stdout


def pytest_run(*args: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> tuple[float, str]:
    """Run pytest of this environment."""
    return run(str(BIN / "pytest"), *args, env=env, cwd=cwd)


def tool(*args: str, env: Mapping[str, str] | None = None) -> float:
    """Run ``pytest-ai-how`` of this environment; seconds."""
    return run(str(BIN / "pytest-ai-how"), *args, env=env)[0]
