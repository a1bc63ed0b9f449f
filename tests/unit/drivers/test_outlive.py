"""What machines said outlives them, in part and without secrets, and errors say where."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.drivers.machines import outlive
from pytest_ai_how.drivers.machines.outlive import keep, name_copies
from pytest_ai_how.errors import AiHowError, ProvisionError, StepFailed
from pytest_ai_how.report.redact import Redactor

SECRET = "open-sesame-1234"


def console(folder: Path, said: bytes, node: str = "node01") -> dict[str, Path]:
    path = folder / node / "console.log"
    path.parent.mkdir()
    path.write_bytes(said)
    return {node: path}


def test_each_is_copied_without_secrets(tmp_path: Path) -> None:
    consoles = console(tmp_path, b"\xff up\n") | console(tmp_path, f"key {SECRET}\n".encode(), "node02")
    redactor = Redactor()
    redactor.register(SECRET)
    keep(consoles, tmp_path / "kept", redactor.data)
    copies = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert copies == {"node01.log": b"\xff up\n", "node02.log": b"key [redacted]\n"}


def test_of_a_machine_that_repeats_itself_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlive, "_MOST", 20)
    monkeypatch.setattr(outlive, "_BEFORE", 30)
    redactor = Redactor()
    redactor.register(SECRET)
    # Half of the secret lies before the last 20 bytes.
    keep(console(tmp_path, b"x" * 500 + f"{SECRET} the end.\n".encode()), tmp_path / "kept", redactor.data)
    assert (tmp_path / "kept" / "node01.log").read_bytes() == b"[redacted] the end.\n"


def test_without_a_console_there_is_no_folder(tmp_path: Path) -> None:
    keep({"node01": tmp_path / "never started"}, tmp_path / "kept", bytes)
    assert not (tmp_path / "kept").exists()


def test_all_that_led_to_an_error_names_the_copies(tmp_path: Path) -> None:
    consoles = {"node01": tmp_path / "node01/console.log", "node02": tmp_path / "node02/console.log"}
    errors = [ProvisionError(node, "is off", cure=f"read {path}") for node, path in consoles.items()]
    other = AiHowError("node03", "is off", cure="read /var/log/syslog")
    failed = StepFailed("node01", "failed", cure=errors[0].cure)
    failed.__cause__ = ExceptionGroup("all", [*errors, other])
    errors[0].__context__ = failed  # a ring
    name_copies(failed, consoles, tmp_path / "kept")
    told = [error.cure for error in (failed, *errors, other)]
    first, second = f"read {tmp_path}/kept/node01.log", f"read {tmp_path}/kept/node02.log"
    assert told == [first, first, second, "read /var/log/syslog"]
    assert str(failed).endswith(f"  do: {first}")
