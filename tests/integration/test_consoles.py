"""What machines said outlives them: whoever is told to read a console finds it, when all is taken down."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_ai_how.deadline import wait_for
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.state import cookie
from tests.integration.conftest import NAME, Life

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn needs root"),
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="apt-get install systemd-container"),
]
# systemd's first words, which it says of itself even where it is to be quiet.
BOOTS = "running in system mode"


def dies_while_it_boots(life: Life) -> None:
    """End node01, with all that runs in it, when it has said that it boots."""
    console = life.state / "pytest-ai-how" / NAME / "machines" / "nodes" / "node01" / "console.log"
    wait_for(
        lambda: console.exists() and BOOTS in console.read_text(errors="replace"),
        within=60, what="booting", every=0.01, at_most=0.01,
    )  # fmt: skip
    for one in marked(f"{cookie(NAME)}/node01"):
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)


def advised(text: str) -> Path:
    """The console that the first advice names."""
    [path, *_] = [line.partition("do: read ")[2] for line in text.splitlines() if "do: read " in line]
    return Path(path)


def test_the_console_that_a_failed_up_names_is_there(life: Life) -> None:
    process = life.start(sys.executable, "-m", "pytest_ai_how", "up", "--cluster", "small.yaml")
    dies_while_it_boots(life)
    ended = life.end(process)
    assert ended.status == 1, ended
    assert "node01: step 'machines' failed: systemd-nspawn ended while the machine booted" in ended.errors
    assert life.left == []
    console = advised(ended.errors)
    assert console.is_relative_to(life.state), ended
    assert BOOTS in console.read_text()
    assert f"{console.parent}: removed\n" in life.cli("reap").text
    assert not console.exists()


def test_the_console_that_a_failed_run_names_is_there(life: Life) -> None:
    life.tests("def test_good(cluster):\n    pass\n")
    process = life.pytest()
    dies_while_it_boots(life)
    ended = life.end(process)
    assert ended.status == 1, ended
    assert life.left == []
    console = advised(life.report()["results"][0]["reason"])
    assert console == advised(ended.text)
    assert console.parent.name == "consoles"
    assert BOOTS in console.read_text()
    assert {path.name for path in console.parent.iterdir()} == {"controller.log", "node01.log"}
