"""YAML as plain values that remember where they were written.

Everything that reports a mistake as ``file:line`` reads its file through here: the cluster's YAML and the limits.
Untrusted text is bounded before anything is built from it: size, depth, and the number of values after aliases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml

from pytest_ai_how.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 20_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with the value at ``path``; ``at`` is its place where the path alone does not tell."""

    path: KeyPath
    what: str
    hint: str = ""
    at: Mark | None = None


@dataclass(frozen=True)
class Marked:
    """The values of one file, the mark of each, and the mistakes that reading alone has found."""

    file: str
    value: object
    marks: Mapping[KeyPath, Mark]
    mistakes: tuple[Mistake, ...] = ()

    def mark(self, path: KeyPath) -> Mark:
        """Where ``path`` is written, or the innermost thing around it that is."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))

    def problems(self, mistakes: Iterable[Mistake]) -> list[Problem]:
        """The mistakes with their lines, in file order."""
        placed = sorted(((mistake.at or self.mark(mistake.path), mistake) for mistake in mistakes), key=lambda p: p[0])
        return [Problem(self.file, mark.line, dotted(m.path), m.what, m.hint) for mark, m in placed]


def dotted(path: KeyPath) -> str:
    """``nodes.1.memory``; a key that is no plain word is shown escaped."""
    return ".".join(part if re.fullmatch(r"[\w-]{1,64}", part := str(key)) else shown(part) for key in path)


class ExpansionError(ValueError):
    """A ``${…}`` that cannot be expanded; the message says why."""


def shown(value: object, width: int = 60) -> str:
    """``value`` as it may safely stand in a message: escaped, on one line, at most ``width`` characters."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = ascii(value) if isinstance(value, str) else str(value)
    if len(text) <= width:
        return text
    note = f"… ({len(str(value))} characters)"
    return text[: width - len(note)] + note


def shortened(message: str, width: int = 120) -> str:
    """A library's message, which may repeat what it read: on one line, at most ``width`` characters."""
    text = message if message.isprintable() else ascii(message)
    return text if len(text) <= width else text[: width - 1] + "…"


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the known word nearest to ``word``; empty when none is near."""
    lower = {name.lower(): name for name in known}
    found = get_close_matches(word[:64].lower(), lower, n=1, cutoff=0.6)
    return f"did you mean {shown(lower[found[0]])}?" if found else ""


def read_text(path: Path, file: str) -> str:
    """The text of a file. Raises :class:`ConfigError` if it cannot be read, is too large, or is not UTF-8."""
    try:
        if path.is_dir():
            raise _wrong(file, 0, "is a directory, not a YAML file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _wrong(file, 0, "no such file") from None
    except OSError as error:
        raise _wrong(file, 0, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise _wrong(file, 0, f"larger than {MAX_BYTES // 1024} KiB; no configuration is that large")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _wrong(file, line, f"not UTF-8: byte 0x{raw[error.start]:02x}") from error


def read_yaml(text: str, file: str, expand: Callable[[str], str] = str) -> Marked:
    """Read one YAML document; ``expand`` is applied to string values after parsing, so it cannot change the structure.

    Raises :class:`ConfigError` for text that is not YAML or exceeds the bounds. What can be told together with
    later mistakes (duplicate keys, tags, expansion) is returned in ``mistakes``.
    """
    try:
        tagged = _survey(text, file)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise _syntax(error, text, file) from error
    if root is None:
        raise _wrong(file, 0, "is empty")
    builder = _Builder(file, expand, tagged)
    value = builder.build(root, ())
    return Marked(file, value, builder.marks, tuple(builder.mistakes))


def _wrong(file: str, line: int, what: str) -> ConfigError:
    return ConfigError([Problem(file, line, "", what)])


def _syntax(error: yaml.YAMLError, text: str, file: str) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        said = ", ".join(shortened(part) for part in (error.context, error.problem) if part)
        line = error.problem_mark.line
        braced = "${" in "".join(text.splitlines()[line : line + 1])
        hint = 'inside { } and [ ] a value needs quotes: "${NAME}"' if braced else ""
        return ConfigError([Problem(file, line + 1, "", f"not valid YAML: {said}", hint)])
    position = getattr(error, "position", 0)
    return _wrong(file, text.count("\n", 0, position) + 1, "not valid YAML: a character that YAML does not allow")


def _survey(text: str, file: str) -> frozenset[Mark]:
    """Bound depth and size on the flat stream of events, and find explicit tags."""
    depth = 0
    tagged = set()
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        mark = _mark(event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _wrong(file, mark.line, f"nested deeper than {MAX_DEPTH} levels")
        if count > 2 * MAX_VALUES:
            raise _wrong(file, mark.line, f"more than {MAX_VALUES} values")
        if getattr(event, "tag", None) is not None:
            tagged.add(mark)
    return frozenset(tagged)


def _mark(node: yaml.Node | yaml.Event) -> Mark:
    start = node.start_mark
    return Mark(start.line + 1, start.column + 1) if start else Mark(1, 1)


class _Builder:
    """Turns composed nodes into dicts, lists and scalars."""

    def __init__(self, file: str, expand: Callable[[str], str], tagged: frozenset[Mark]) -> None:
        self.file, self.expand, self.tagged = file, expand, tagged
        self.marks: dict[KeyPath, Mark] = {}
        self.mistakes: list[Mistake] = []
        self.count = 0
        self.resolver: Any = yaml.resolver.Resolver()

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        self.count += 1
        mark = _mark(node)
        self.marks.setdefault(path, mark)
        if self.count > MAX_VALUES:
            raise _wrong(self.file, mark.line, f"more than {MAX_VALUES} values once aliases are followed")
        if len(path) > MAX_DEPTH:
            raise _wrong(self.file, mark.line, "an alias that contains itself, or values nested too deep")
        if mark in self.tagged:
            self.mistakes.append(Mistake(path, "tags are not accepted", "write the plain value"))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.scalar(cast(yaml.ScalarNode, node), path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merged += self.merge(value, path)
                continue
            mark = _mark(key)
            if not isinstance(key, yaml.ScalarNode):
                self.mistakes.append(Mistake(path, "a mapping or list cannot be a key", at=mark))
                continue
            inner = (*path, key.value)
            if key.value in result:
                what = f"written twice; first in line {self.marks[inner].line}"
                self.mistakes.append(Mistake(inner, what, at=mark))
                continue
            self.marks[inner] = mark
            result[key.value] = self.build(value, inner)
        for key, value in merged:
            if key.value not in result:
                self.marks[(*path, key.value)] = _mark(key)
                result[key.value] = self.build(value, (*path, key.value))
        return result

    def merge(self, node: yaml.Node, path: KeyPath) -> list[tuple[yaml.Node, yaml.Node]]:
        """What ``<<: *anchor`` brings in; keys written in the mapping itself win."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(source, yaml.MappingNode) for source in sources):
            self.mistakes.append(Mistake(path, "'<<' merges mappings only"))
            return []
        return [(key, value) for source in sources for key, value in source.value if isinstance(key, yaml.ScalarNode)]

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        text, tag = str(node.value), node.tag
        try:
            expanded = self.expand(text) if tag == _TAG + "str" else text
        except ExpansionError as error:
            self.mistakes.append(Mistake(path, str(error)))
            return None
        if expanded != text and not node.style:
            tag = self.resolver.resolve(yaml.ScalarNode, expanded, (True, False))
        if any("\ud800" <= character <= "\udfff" for character in expanded):
            self.mistakes.append(Mistake(path, f"{shown(expanded)} is not valid Unicode"))
            return None
        return _typed(expanded, tag)


def _typed(text: str, tag: str) -> object:
    """The value of a scalar by YAML 1.1's rules, without its base-60 numbers and dates, which stay strings."""
    if tag == _TAG + "null":
        return None
    if tag == _TAG + "bool":
        return text.lower() in {"yes", "true", "on"}
    if ":" in text or len(text) > 64:
        return text
    constructor = yaml.constructor.SafeConstructor()
    try:
        if tag == _TAG + "int":
            return constructor.construct_yaml_int(yaml.ScalarNode(tag, text))
        number = constructor.construct_yaml_float(yaml.ScalarNode(tag, text)) if tag == _TAG + "float" else None
    except (ValueError, IndexError):
        # PyYAML takes "0x_" for a number and then cannot read it.
        return text
    return number if number is not None and math.isfinite(number) else text
