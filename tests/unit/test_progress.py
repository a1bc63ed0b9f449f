"""Long work says what it does: plain lines where nobody looks, a live display on a terminal."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from pytest_ai_how.progress import LiveStatus, PlainLines, progress_on


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_carry_the_seconds() -> None:
    stream = io.StringIO()
    with progress_on(stream) as progress:
        assert isinstance(progress, PlainLines)
        progress.say("node image", "downloading 99.3 MB")
    assert re.fullmatch(r"\[  0\.\d s\] node image: downloading 99\.3 MB\n", stream.getvalue())


def test_a_terminal_gets_a_live_line_with_each_subject_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress_on(stream) as progress:
        assert isinstance(progress, LiveStatus)
        progress.say("node image", "reading [bold]lists")
        progress.say("base image", "waiting")
    assert "[bold]" in stream.getvalue()


def test_a_terminal_that_can_not_replace_lines_gets_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with progress_on(stream) as progress:
        progress.say("node image", "reading")
    assert re.fullmatch(r"\[  0\.\d s\] node image: reading\n", stream.getvalue())


def test_rich_is_not_imported_without_a_terminal() -> None:
    code = (
        "import io, sys; from pytest_ai_how.progress import progress_on\n"
        "with progress_on(io.StringIO()) as p: p.say('a', 'b')\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
