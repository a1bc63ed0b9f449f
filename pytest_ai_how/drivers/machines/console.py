"""What machines said on their consoles meanwhile, and whether a kernel died in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# What Linux 6.12 says when it dies or goes on damaged: panic() in kernel/panic.c; die() and oops in arch/x86 (its
# dumpstack, fault, traps); BUG() in lib/bug.c. A full memory (oom_kill.c), a slow CPU (soft lockup, RCU stall) and
# WARN() are no crashes: machines meet them on a loaded host, and jobs on purpose.
_CRASH = re.compile(
    rb"Kernel panic - not syncing: .*"
    rb"|Oops: .*"
    rb"|BUG: (?:unable to handle|kernel NULL pointer dereference|Bad page state).*"
    rb"|general protection fault.*\[#\d+\].*"
    rb"|kernel BUG at .*"
)
# Bytes of a console that are read at most: a machine that repeats itself for ever must not fill our memory.
_MOST = 4 * 2**20


def lengths(consoles: Mapping[str, Path]) -> dict[str, int]:
    """The length of each console's file now, in bytes, by machine."""
    return {name: path.stat().st_size for name, path in consoles.items() if path.exists()}


def said_since(consoles: Mapping[str, Path], before: Mapping[str, int]) -> dict[str, bytes]:
    """What was appended to each console since it was ``before`` bytes long; only machines that said anything.

    A machine without a former length is new: all that it said counts, and so does all of a file that got shorter.
    """
    said = {}
    for name, path in consoles.items():
        if path.exists() and (text := _tail(path, before.get(name, 0))):
            said[name] = text
    return said


def crash_in(said: bytes) -> str:
    """The line by which a kernel says that it died or went on damaged, without its time stamp; empty when none did.

    ``[   93.071204] Kernel panic - not syncing: sysrq triggered crash`` (Linux 6.12, ``echo c >/proc/sysrq-trigger``).
    A panic is preferred to the oops that led to it.
    """
    found = [line.strip().decode(errors="replace") for line in _CRASH.findall(said)]
    return next((line for line in found if line.startswith("Kernel panic")), found[0] if found else "")


def _tail(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(start if start <= size else 0, size - _MOST))
        return file.read(_MOST)
