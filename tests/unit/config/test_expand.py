"""Variables in the strings of a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.expand import expander
from pytest_ai_how.errors import ConfigError
from pytest_ai_how.marked import ExpansionError, read_yaml
from tests.unit.config.samples import SOUND, load

BOUND = {"NAME": "x", "EMPTY": "", "TWO": "2", "SELF": "${NAME}"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${NAME}", "x"),
        ("a${NAME}b${TWO}c", "axb2c"),
        ("${NONE:-d}", "d"),
        ("${NONE:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${NAME:-d}", "x"),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$$$${NAME}", "$${NAME}"),
        ("${SELF}", "${NAME}"),
        ("100$", "100$"),
        ("$(id)", "$(id)"),
        ("${NONE:-a b/c:d}", "a b/c:d"),
    ],
)
def test_expanded(text: str, result: str) -> None:
    assert expander(BOUND)(text) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NONE}", "variable NONE is not set; set it, or write ${NONE:-default}"),
        ("${NAM}", "variable NAM is not set; set it, or write ${NAM:-default} (did you mean 'NAME'?)"),
        ("${NAME:+x}", "'${NAME:+x}' is not understood; write ${NAME} or ${NAME:-default}"),
        ("${NAME:?x}", "'${NAME:?x}' is not understood; write ${NAME} or ${NAME:-default}"),
        ("${#NAME}", "'${#NAME}' is not understood; write ${NAME} or ${NAME:-default}"),
        ("${}", "'${}' is not understood; write ${NAME} or ${NAME:-default}"),
        ("${NAME", "'${NAME' is not understood; write ${NAME} or ${NAME:-default}"),
        ("$NAME", "'$NAME' is not expanded; write ${NAME}, or $$ for a dollar"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ExpansionError) as caught:
        expander(BOUND)(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${N:-2}", 2),
        ("'${N:-2}'", "2"),
        ("${N:-yes}", True),
        ("${N:-1.5}", 1.5),
        ("${N:-}", None),
        ("${N:-x}", "x"),
        ("${N:-[a, b]}", "[a, b]"),
        ("${N:-01:02:03}", "01:02:03"),
        ("$${N}", "${N}"),
        ("${N:-0x_}", "0x_"),
        ("${N:-.inf}", ".inf"),
        ("${N:-1e400}", "1e400"),
    ],
)
def test_plain_values_are_typed_as_yaml_would(text: str, value: object) -> None:
    assert read_yaml(f"key: {text}\n", "f", expander({})).value == {"key": value}


def test_keys_are_not_expanded() -> None:
    assert read_yaml("${NAME}: 1\n", "f", expander(BOUND)).value == {"${NAME}": 1}


def test_environment_reaches_the_configuration(tmp_path: Path) -> None:
    text = SOUND.replace("driver: nspawn", "driver: nspawn\nuser: ${JOB_USER}")
    assert load(tmp_path, text, {"JOB_USER": "alice"}).user == "alice"


def test_bytes_in_the_environment_that_are_no_text_are_refused(tmp_path: Path) -> None:
    text = SOUND.replace("driver: nspawn", "driver: nspawn\nuser: ${JOB_USER}")
    with pytest.raises(ConfigError, match=r":4: user: 'caf\\udce9' is not valid Unicode"):
        load(tmp_path, text, {"JOB_USER": "caf\udce9"})
