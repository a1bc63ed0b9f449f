"""Curves as pictures for the report: SVG, so that nothing need be installed to draw or to see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 640, 300, 64, 40, 34, 16
#: Told apart by people who see colours differently (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
Point = tuple[float, float]
Points = Sequence[Point]


def chart(title: str, across: str, up: str, series: Mapping[str, Points]) -> str:
    """A line for each series over one pair of axes, ``across`` and ``up`` being what is on them.

    What is no finite number is left out of its line. Raises :class:`ValueError` when there is nothing to draw.
    """
    known = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in series.items()}
    every = [point for points in known.values() for point in points]
    if not every:
        raise ValueError(f"{title}: nothing to draw")
    x_low, x_high = _range([x for x, _ in every])
    y_low, y_high = _range([y for _, y in every])

    def place(point: Point) -> Point:
        x = _LEFT + (point[0] - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (point[1] - y_low) / (y_high - y_low) * (_HEIGHT - _BOTTOM - _TOP)
        return x, y

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(title)}</text>',
    ]
    parts += _axes(place, (x_low, x_high), (y_low, y_high), across, up)
    for number, (name, points) in enumerate(known.items()):
        parts += _line(name, [place(point) for point in points], _COLOURS[number % len(_COLOURS)], number)
    return "\n".join([*parts, "</svg>\n"])


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest, and a little where they are the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _axes(
    place: Callable[[Point], Point], xs: tuple[float, float], ys: tuple[float, float], across: str, up: str
) -> list[str]:
    bottom, found = _HEIGHT - _BOTTOM, []
    for step in range(5):
        value = ys[0] + (ys[1] - ys[0]) * step / 4
        _, y = place((xs[0], value))
        found.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        found.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in xs:
        x, _ = place((value, ys[0]))
        found.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.4g}</text>')
    middle = (_TOP + bottom) / 2
    return [
        *found,
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>',
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(up)}</text>',
    ]


def _line(name: str, places: Sequence[tuple[float, float]], colour: str, number: int) -> list[str]:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
    label = (
        f'<text x="{_WIDTH - _RIGHT}" y="{16 + 14 * number}" text-anchor="end" fill="{colour}">{escape(name)}</text>'
    )
    return [f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots, label]
