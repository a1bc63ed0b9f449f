"""How fast GPUs are, and how fast their maker says that they can be at most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pytest_ai_how.assets import asset
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.shell import Result


@dataclass(frozen=True, slots=True)
class Card:
    """What a card can do at most: GB/s of its memory, TFLOP/s of dense products in bfloat16; and who says so."""

    memory: float
    matrix: float
    source: str


@dataclass(frozen=True, slots=True)
class Rates:
    """What one GPU did, in the same units; ``samples`` copies and products each."""

    name: str
    number: int
    memory: float
    matrix: float
    wrong: int
    samples: int
    type: str

    @property
    def label(self) -> str:
        """How figures name it: ``GPU 0, NVIDIA H200``."""
        return f"GPU {self.number}, {self.name}"


def known_cards(file: Path | None = None) -> Mapping[str, Card]:
    """The cards of configs/cards.yaml, by the driver's name for them."""
    path = file or asset("configs/cards.yaml")
    return {name: Card(**card) for name, card in yaml.safe_load(path.read_text(encoding="utf-8"))["cards"].items()}


def rates(told: Result) -> tuple[Rates, ...]:
    """Read what ``payloads/rates.py`` says. Raises :class:`AssertionError` naming the machine when it failed.

    Raises :class:`AiHowError` where it says something else: then it is not the cluster's fault.
    """
    said = (told.stderr.strip() or told.stdout.strip() or "nothing").splitlines()[-1]
    assert told.ok, f"{told.node}: measuring its GPUs ended with {told.returncode}: {said}"
    try:
        return tuple(Rates(**device) for device in json.loads(told.stdout)["devices"])
    except (ValueError, LookupError, TypeError) as error:
        raise AiHowError(told.node, f"measuring its GPUs said {said[:200]!r}", expected="their rates") from error


def program() -> str:
    """The text of the program that measures."""
    return (Path(__file__).parent / "payloads" / "rates.py").read_text(encoding="utf-8")
