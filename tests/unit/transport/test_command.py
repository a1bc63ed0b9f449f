from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest

from pytest_ai_how.errors import CommandTimeout, OutputLimitExceeded
from pytest_ai_how.transport.command import Output, checked, encoded


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("ls -l", "'ls -l': a command is a list of words that starts with a program"),
        ([], r"\[\]: a command is a list of words that starts with a program"),
        ([""], r"\[''\]: a command is a list of words that starts with a program"),
        (["-n", "x"], r"\['-n', 'x'\]: a command is a list of words that starts with a program"),
        (["sleep", 5], r"\['sleep', 5\]: 5 is not text; convert it with str\(\)"),
        (["echo", "a\0b"], r"'a\\x00b' holds a NUL, which no program can be given"),
    ],
)
def test_what_no_machine_can_run(argv: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(argv)


@pytest.mark.parametrize("user", ["", "a b", "root;id", "$(id)", "-u", "A", "x" * 33])
def test_what_is_no_user(user: str) -> None:
    with pytest.raises(ValueError, match="is not a user name"):
        checked(["true"], user)


def test_a_command_that_can_be_run_is_kept() -> None:
    assert checked(["echo", "", "$(id)"], "hpc") == ("echo", "", "$(id)")


def test_text_is_sent_as_utf8() -> None:
    assert encoded("ü") == b"\xc3\xbc"
    assert encoded(b"\xff") == b"\xff"


def test_the_limit_is_on_both_streams_together() -> None:
    output = Output("node01", ("yes",), limit=2**20)
    output.add(output.stdout, bytes(2**19))
    output.add(output.stderr, bytes(2**19))
    with pytest.raises(OutputLimitExceeded) as caught:
        output.add(output.stderr, b"x")
    assert str(caught.value) == (
        "node01: `yes` wrote more than 1 MiB and was killed\n"
        "  do: send its output to a file on the machine, and read the part that is needed"
    )
    assert len(caught.value.result.stdout) == 2**19
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_timeout_carries_what_was_said() -> None:
    output = Output("node01", ("sleep", "9"))
    output.add(output.stdout, b"so far\xff")
    error = output.timeout(1.5)
    assert isinstance(error, CommandTimeout)
    assert str(error) == "node01: `sleep 9` did not end within 1.5 s and was killed"
    assert (error.result.stdout, error.result.returncode) == ("so far\ufffd", -9)
