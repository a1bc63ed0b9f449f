"""Configurations held to the schema of the Oumi that is installed, by what payloads/schema.py said of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from pytest_ai_how.errors import AiHowError


def kind_of(name: str) -> str:
    """What a file is for: the first word of its name.

    >>> kind_of("launch/work/train.yaml"), kind_of("job-no-script.yaml")
    ('train', 'job')
    """
    return PurePosixPath(name).stem.partition("-")[0]


def found(said: str) -> Mapping[str, str]:
    """What is wrong with each file, '' for nothing, in what payloads/schema.py printed."""
    answers = json.loads(said)
    return {str(name): str(answer) for name, answer in answers.items()}


def refuse_invalid(said: str, names: Iterable[str], where: str) -> None:
    """Raise :class:`AiHowError` for the first of ``names`` that the schema does not take; ``where`` says by whom."""
    answers = found(said)
    for name in names:
        answer = answers.get(name, "nobody looked at it")
        if answer:
            raise AiHowError(
                f"{where}: {name}",
                f"is not handed in, for the schema of the installed Oumi does not take it: {answer[:300]}",
                expected="a configuration with which nothing is wrong",
                cure="see OUM-02 for all of them, and by OUM-01 whether Oumi is of the image's lock",
            )
