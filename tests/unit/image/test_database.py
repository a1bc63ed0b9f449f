"""What MariaDB's files hold of the moment and of this machine is taken out of them (samples: MariaDB 11.8.9)."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from pytest_ai_how.assets import asset

PROGRAM = asset("provisioning/roles/accounting/files/usr/lib/ai-how/database.py")
EPOCH = 1767225600
# The server's number, as uuid(1) makes it: its second half is this machine's network address.
SERVER = bytes.fromhex("dd7c25f8ea5911f1805502fc00000001")
BEGAN = 0x6B097065


@pytest.fixture(scope="module")
def database() -> ModuleType:
    spec = importlib.util.spec_from_file_location("database", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(number: bytes) -> bytes:
    """The beginning of ``mysql/db.frm``."""
    head = bytes.fromhex("fe010a2a16005a000100a10d0000e203") + bytes(48)
    return head + b"\0\x10" + number + bytes.fromhex("000105020000")


def view(stamp: bytes) -> bytes:
    return b"TYPE=VIEW\nquery=select 1\nwith_check_option=0\ntimestamp=" + stamp + b"\ncreate-version=2\n"


def index(server: bytes, *moments: int) -> bytes:
    times = b"\xff".join(moment.to_bytes(8, "big") for moment in moments)
    head = b"\xfe\xfe\x09\x03" + times + b"\0" * 60 + server
    return head + bytes(8192 - len(head)) + b"keys " + BEGAN.to_bytes(8, "big")


def test_a_table_has_its_names_number(database: ModuleType) -> None:
    first, second = (database.definition("mysql/db.frm", table(bytes([one]) * 16), EPOCH) for one in (1, 2))
    assert first == second
    assert len(first) == len(table(SERVER))
    assert first != database.definition("mysql/user.frm", table(SERVER), EPOCH)
    assert (first[:66], first[82:]) == (table(SERVER)[:66], table(SERVER)[82:])


def test_a_view_has_the_time_of_the_epoch(database: ModuleType) -> None:
    assert database.definition("sys/version.frm", view(b"0001795780711561983"), EPOCH) == view(b"0001767225600000000")


@pytest.mark.parametrize("content", [b"TYPE=TRIGGERS\n", view(b"soon"), b"\xfe\x01" + bytes(80), b""])
def test_a_definition_of_another_form_ends_the_build(database: ModuleType, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a/b\.frm: neither a view with one time stamp nor a table with a number"):
        database.definition("a/b.frm", content, EPOCH)


def test_an_index_is_of_no_server_and_of_the_epoch(database: ModuleType) -> None:
    other = bytes(range(16))
    made = database.index("a/b.MAI", index(SERVER, BEGAN, BEGAN + 1), SERVER, range(BEGAN, BEGAN + 3), EPOCH)
    again = database.index("a/b.MAI", index(other, BEGAN + 7, BEGAN + 8), other, range(BEGAN + 7, BEGAN + 9), EPOCH)
    # Its keys are its own.
    assert made == again == index(bytes(16), EPOCH, EPOCH)


def test_an_index_of_another_form_ends_the_build(database: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"^a/b\.MAI: holds its server's number 0 times, expected once"):
        database.index("a/b.MAI", index(SERVER, BEGAN), bytes(range(16)), range(BEGAN, BEGAN + 1), EPOCH)
