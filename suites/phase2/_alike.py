"""What is to be the same on all machines, and which machine is the odd one out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class Odd(NamedTuple):
    """A machine that differs, and one of those that it differs from."""

    node: str
    other: str


def odd_one(values: Mapping[str, T]) -> Odd | None:
    """The first machine whose value is not that of most; where as many have another one, the first machine is right.

    >>> odd_one({"controller": "a", "node01": "b", "node02": "b"})
    Odd(node='controller', other='node01')
    >>> odd_one({"controller": "a", "node01": "b"})
    Odd(node='node01', other='controller')
    """
    if not values:
        return None
    (most, _), *_ = Counter(values.values()).most_common(1)
    other = next(name for name, value in values.items() if value == most)
    odd = next((name for name, value in values.items() if value != most), None)
    return Odd(odd, other) if odd else None
