from __future__ import annotations

import base64
from pathlib import Path

import pytest

from pytest_ai_how.report.assemble import assemble
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.html import render
from pytest_ai_how.report.items import Attachment, Step
from pytest_ai_how.report.model import Verdict
from pytest_ai_how.report.redact import REDACTED, Redactor
from tests.unit.report import sample

DATA = Path(__file__).parents[2] / "data" / "report"
KEY = bytes(range(128, 160))


def test_the_accounting_password_goes_and_the_rest_of_the_file_stays() -> None:
    said = Redactor().text((DATA / "slurmdbd.conf").read_text())
    assert "wombat" not in said
    assert f"StoragePass={REDACTED}\nStorageLoc=slurm_acct_db" in said
    assert "StorageUser=slurm" in said


def test_a_private_key_block_goes_whole() -> None:
    said = Redactor().text((DATA / "openssh-key.txt").read_text())
    assert said == f"id_ed25519:\n{REDACTED}\nend of file\n"


def test_a_private_key_whose_end_is_missing_goes_to_the_end_of_the_text() -> None:
    cut = (DATA / "openssh-key.txt").read_text().split("-----END")[0]
    assert Redactor().text(cut) == f"id_ed25519:\n{REDACTED}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2secret next", f"password={REDACTED} next"),
        ('"password": "a b c", "user": "x"', f'"password": {REDACTED}, "user": "x"'),
        ("MYSQL_PASSWORD='a b' x", f"MYSQL_PASSWORD={REDACTED} x"),
        ("aws_secret_access_key = abc/def+1", f"aws_secret_access_key = {REDACTED}"),
        ("id AKIAIOSFODNN7EXAMPLE.", f"id {REDACTED}."),
        ("CREATE USER slurm IDENTIFIED BY 'pw'", f"CREATE USER slurm IDENTIFIED BY {REDACTED}"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {REDACTED}"),
        ("http://user:pass@host/x", f"http://user:{REDACTED}@host/x"),
        ("PasswordAuthentication no", "PasswordAuthentication no"),
        ("JobId=12 Partition=gpu http://host:80/x", "JobId=12 Partition=gpu http://host:80/x"),
    ],
)
def test_what_looks_like_a_secret_goes_and_nothing_else(text: str, expected: str) -> None:
    assert Redactor().text(text) == expected


def test_a_registered_key_goes_as_it_is_in_base64_and_in_hex() -> None:
    redactor = Redactor()
    redactor.register(KEY)
    assert redactor.data(b"\xff" + KEY + b"\xfe") == b"\xff" + REDACTED.encode() + b"\xfe"
    assert redactor.text(base64.b64encode(KEY).decode()) == REDACTED
    assert redactor.text(KEY.hex()) == REDACTED
    assert redactor.text(KEY.hex().upper()) == REDACTED


def test_one_line_of_a_registered_secret_is_enough() -> None:
    redactor = Redactor()
    redactor.register("another secret", "first line of the secret file\nsecond line of the secret file\n")
    assert redactor.text("saw: second line of the secret file") == f"saw: {REDACTED}"
    assert redactor.text("saw: another secret") == f"saw: {REDACTED}"


@pytest.mark.parametrize("short", ["", "abc", "  \n  \n  ", b"12345"])
def test_a_secret_too_short_to_tell_from_output_is_refused(short: str | bytes) -> None:
    with pytest.raises(ValueError, match="cannot be redacted"):
        Redactor().register(short)


def test_evidence_never_holds_a_secret_even_where_it_was_cut() -> None:
    redactor = Redactor()
    redactor.register("topsecretvalue")
    evidence = Evidence(redactor, attachment_bytes=32)
    evidence.attach("topsecretvalue.txt", "x" * 10 + "topsecretvalue" + "y" * 100)
    with evidence.step("use topsecretvalue"):
        pass
    kept = evidence.items[0]
    assert "topsec" not in kept.content + kept.name + evidence.steps[0].text
    assert kept.truncated_from == 10 + len(REDACTED) + 100


def test_no_report_shows_a_secret_that_only_the_controller_knew() -> None:
    redactor = Redactor()
    redactor.register("topsecretvalue")
    inner = Step(text="use topsecretvalue", ok=True, started=1, seconds=1)
    result = sample.item(Verdict.FAILED, "SLU-12", reason="node01: topsecretvalue").model_copy(
        update={
            "trace": "E topsecretvalue",
            "attachments": (Attachment(name="echo topsecretvalue", content="has topsecretvalue"),),
            "steps": (Step(text="use it", ok=True, started=1, seconds=1, steps=(inner,)),),
        }
    )
    run = sample.RUN.model_copy(update={"command": "x topsecretvalue", "host": {"a": "topsecretvalue"}})
    report = assemble(run, [result], sample.ROWS, redactor=redactor)
    for text in (report.model_dump_json(), render(report)):
        assert "topsecret" not in text
        assert REDACTED in text


@pytest.mark.parametrize("piece", ["x", "a.", "password", "http:", "-----BEGIN ", "a b:@", "password= "])
def test_megabytes_of_output_are_searched_in_one_go(piece: str) -> None:
    # A pattern that tries every start against every end would need hours for this.
    text = piece * (2_000_000 // len(piece))
    assert Redactor().text(text)[: len(piece)] == piece
