"""Reading consoles."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.drivers.machines import console
from pytest_ai_how.drivers.machines.console import crash_in, lengths, said_since

from .sample import DATA


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"[    5.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n",
         "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"),
        (b"[   12.3] BUG: kernel NULL pointer dereference, address: 0000000000000000\n",
         "BUG: kernel NULL pointer dereference, address: 0000000000000000"),
        (b"[   12.3] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI\n", "Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI"),
        (b"[   12.3] kernel BUG at mm/slub.c:4025!\n", "kernel BUG at mm/slub.c:4025!"),
        (b"[  1.0] Oops: 0002 [#1]\n[  1.1] Kernel panic - not syncing: Fatal exception\r\n",
         "Kernel panic - not syncing: Fatal exception"),
    ],
)  # fmt: skip
def test_a_kernel_that_died_is_told_by_its_own_words(said: bytes, line: str) -> None:
    assert crash_in(said) == line


def test_a_panic_as_a_real_machine_wrote_it() -> None:
    """Debian's 6.12.117 in an emulated machine, ``echo c >/proc/sysrq-trigger``."""
    assert crash_in((DATA / "console-panic.txt").read_bytes()) == "Kernel panic - not syncing: sysrq triggered crash"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[  99.0] Out of memory: Killed process 812 (head) total-vm:307200kB\n",
        b"[  99.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [swapper/0:1]\n",
        b"[  99.0] rcu: INFO: rcu_preempt self-detected stall on CPU\n",
        b"[  99.0] WARNING: CPU: 0 PID: 1 at kernel/sched/core.c:1\n",
        b"[    0.0] Command line: console=ttyS0 panic=-1 oops=panic\n",
        b"\xff\xfe not text",
    ],
)
def test_a_kernel_that_lives_did_not_die(said: bytes) -> None:
    assert crash_in(said) == ""


def test_only_what_was_appended_counts(tmp_path: Path) -> None:
    one, two, new = (tmp_path / name for name in ("one", "two", "new"))
    one.write_text("early\n")
    two.write_text("long ago\n")
    consoles = {"one": one, "two": two, "new": new}
    before = lengths(consoles)
    assert before == {"one": 6, "two": 9}
    assert said_since(consoles, before) == {}
    with one.open("a") as file:
        file.write("late\n")
    new.write_text("born\n")
    two.write_text("anew\n")
    assert said_since(consoles, before) == {"one": b"late\n", "two": b"anew\n", "new": b"born\n"}


def test_a_machine_that_repeats_itself_does_not_fill_our_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_MOST", 8)
    path = tmp_path / "console"
    path.write_bytes(b"x" * 100 + b"the end.")
    assert said_since({"node01": path}, {}) == {"node01": b"the end."}
