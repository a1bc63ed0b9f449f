from __future__ import annotations

import doctest
import re

import pytest

from pytest_ai_how.errors import CommandTimeout, FileError
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import Call, FakeTransport, Transport, fake


def test_it_is_a_transport() -> None:
    assert isinstance(FakeTransport(), Transport)


def test_the_example_in_its_description_is_true() -> None:
    found = doctest.testmod(fake)
    assert (found.attempted > 5, found.failed) == (True, 0)


def test_an_unknown_command_is_named_with_the_known_ones() -> None:
    transport = FakeTransport("node01", [(("scontrol", "a b"), ""), (re.compile("^x"), ""), (never, "")])
    with pytest.raises(AssertionError) as caught:
        transport.execute(["scontrol", "it's"], timeout=1)
    assert str(caught.value) == ("node01: no answer for `scontrol 'it'\"'\"'s'`\n  known: scontrol 'a b', /^x/, never")


def never(argv: tuple[str, ...]) -> bool:
    return False


def test_one_that_knows_nothing_says_so() -> None:
    with pytest.raises(AssertionError, match=r"node01: no answer for `true`\n  known: nothing"):
        FakeTransport("node01").execute(["true"], timeout=1)


def test_a_word_is_not_the_start_of_another() -> None:
    with pytest.raises(AssertionError):
        FakeTransport("node01", {"sinfo -N": ""}).execute(["sinfo", "-Nl"], timeout=1)


def test_the_first_that_fits_answers() -> None:
    transport = FakeTransport("node01", {"srun -N2": "two", "srun": "any"})
    assert transport.execute(["srun", "-N2", "x"], timeout=1).stdout == "two"
    assert transport.execute(["srun", "-N1", "x"], timeout=1).stdout == "any"


def test_a_result_keeps_its_outcome_and_gets_the_command_and_node() -> None:
    transport = FakeTransport("node01", {"srun": Result(("other",), 3, "out", "err", 1.5, "elsewhere")})
    result = transport.execute(["srun", "x"], timeout=1)
    assert result == Result(("srun", "x"), 3, "out", "err", 1.5, "node01")


def test_errors_are_raised_and_functions_asked() -> None:
    timeout = CommandTimeout(Result(("srun",), -9, node="node01"), 5)
    transport = FakeTransport("node01", {"srun": [timeout, lambda argv: argv[-1], lambda _: timeout]})
    for number in range(4):
        if number == 1:
            assert transport.execute(["srun", "last"], timeout=1).stdout == "last"
        else:
            with pytest.raises(CommandTimeout):
                transport.execute(["srun"], timeout=1)


def test_an_empty_list_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="node01: the list of answers for srun is empty"):
        FakeTransport("node01", {"srun": []})


def test_calls_are_recorded_even_when_nothing_fits() -> None:
    transport = FakeTransport("node01", {"cat": ""})
    transport.execute(["cat"], timeout=2, input="ü", user="hpc")
    with pytest.raises(AssertionError):
        transport.execute(["other"], timeout=3)
    assert transport.calls == [Call(("cat",), "hpc", b"\xc3\xbc", 2), Call(("other",), None, b"", 3)]


def test_files() -> None:
    transport = FakeTransport("node01", files={"/etc/hosts": b"x"})
    transport.put(b"new", "/etc/new", mode=0o600)
    assert (transport.get("/etc/hosts"), transport.get("/etc/new")) == (b"x", b"new")
    assert transport.modes == {"/etc/new": 0o600}
    with pytest.raises(FileError, match="node01: /gone could not be read: No such file or directory"):
        transport.get("/gone")
    with pytest.raises(ValueError, match="'etc' is not absolute"):
        transport.put(b"", "etc")


def test_closing_is_remembered() -> None:
    transport = FakeTransport()
    assert transport.closed is False
    transport.close()
    assert transport.closed is True
