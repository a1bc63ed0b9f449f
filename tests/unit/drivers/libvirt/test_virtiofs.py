"""What serves directories to machines."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pytest_ai_how.drivers.libvirt.virtiofs import direct


def test_direct_io_is_asked_for_and_all_other_words_are_handed_on(tmp_path: Path) -> None:
    program = tmp_path / "the virtiofsd"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    found = direct(program, tmp_path)
    said = subprocess.run([found, "--fd=24", "-o", "source=/a b"], check=True, capture_output=True, text=True).stdout
    assert said.splitlines() == ["-o", "allow_direct_io", "--fd=24", "-o", "source=/a b"]
    assert found.stat().st_mode & 0o777 == 0o700
