"""The programs that roles put onto machines, read without running them: scripts of shells, and of Python."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Language = Literal["sh", "bash", "python"]
# The interpreter is a path, a program that env(1) finds, or an applet of busybox.
_SHEBANG = re.compile(rb"#! *(?:\S*/)?(?:env +)?(?:busybox +)?(sh|dash|bash|python3?)\b")
_LANGUAGES: dict[str, Language] = {"sh": "sh", "dash": "sh", "bash": "bash", "python": "python", "python3": "python"}
# What is read into a shell that runs has no first line that names one.
_SUFFIXES: dict[str, Language] = {".sh": "sh", ".bash": "bash", ".py": "python"}


@dataclass(frozen=True, slots=True)
class Script:
    """A program's file, and what reads it."""

    path: Path
    language: Language


def scripts(folder: Path) -> list[Script]:
    """All of them below a folder, by their first line or else by their name, sorted."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            named = _SHEBANG.match(file.readline(256))
        language = _LANGUAGES[named[1].decode()] if named else _SUFFIXES.get(path.suffix)
        if language:
            found.append(Script(path, language))
    return found


def objections(script: Script) -> Iterator[str]:
    """What is wrong with a script, a line each: file, line, and what its own language or shellcheck says.

    shellcheck (0.9) says what is a note, too, where files that a script reads are not there: machines alone have them.
    """
    if script.language == "python":
        yield from _compiled(script.path)
        return
    yield from _said(script.language, "-n", str(script.path))
    shell = f"--shell={script.language}"
    yield from _said("shellcheck", shell, "--severity=warning", "--format=gcc", str(script.path))


def _compiled(path: Path) -> Iterator[str]:
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        yield f"{path}:{getattr(error, 'lineno', None) or 1}: {getattr(error, 'msg', error)}"


def _said(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return told or ([f"{argv[-1]}: {argv[0]} exited with {done.returncode}"] if done.returncode else [])
