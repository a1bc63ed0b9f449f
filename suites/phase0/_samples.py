"""Broken samples made of a sound configuration, and how the command line is asked about one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml

from pytest_ai_how.cli.parser import main

#: A key path as messages write it, and what is done to the plain values of a sound configuration to break it there.
Break = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the command line said of a file: its exit status, and its standard error."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class Ways:
    """Interfaces and routes as iproute2 tells them."""

    links: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]


def ask(path: str) -> int:
    """Run a command that reads the file, and then runs nothing but ``true`` if such a cluster is up."""
    return main(["exec", "--cluster", path, "--", "true"])


def _set(*path: str | int, value: object) -> Break:
    def change(data: dict[str, Any]) -> None:
        inner: Any = data
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value

    return change


def _again(data: dict[str, Any]) -> None:
    data["nodes"].append(copy.deepcopy(data["nodes"][0]))


BREAKS: Mapping[str, Break] = MappingProxyType(
    {
        "drivr": _set("drivr", value="auto"),
        "version": _set("version", value=99),
        "name": _set("name", value="Not A Name"),
        "driver": _set("driver", value="xen"),
        "user": _set("user", value="root"),
        "nodes": _set("nodes", value=[]),
        "nodes.0.cpus": _set("nodes", 0, "cpus", value=0),
        "nodes.0.memory": _set("nodes", 0, "memory", value="much"),
        "nodes.0.address": _set("nodes", 0, "address", value="300.1.1.1"),
        "nodes.0.memroy": _set("nodes", 0, "memroy", value=1024),
        "nodes.0.roles": _set("nodes", 0, "roles", value=[]),
        "nodes.0.roles.0": _set("nodes", 0, "roles", value=["king"]),
        "storage.kind": _set("storage", "kind", value="floppy"),
        "storage.mount": _set("storage", "mount", value="/etc"),
        "containers.runtime": _set("containers", "runtime", value="docker"),
        "absent.0": _set("absent", value=["warp"]),
        "limits": _set("limits", value="nosuch"),
        "launcher": _set("launcher", value="pbs"),
        "ssh.port": _set("ssh", "port", value=0),
        "nodes.0.name": _set("nodes", 0, "name", value="Not A Name"),
    }
)
#: Where the mistake is reported of a node that stands there twice: at the second one, by its place.
TWICE: Break = _again
#: The same in a file of many lines: where it is, as a pattern whose group is replaced, and what it is replaced by.
LINES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "driver": (r"^driver: (.+)$", "xen"),
        "nodes.0.memory": (r"^nodes:\n(?:[- ] .*\n)*?[- ] memory: (.+)$", "much"),
        "ssh.prt": (r"^ssh:\n(?:  .*\n)*?  (port): ", "prt"),
        "storage.kind": (r"^storage:\n(?:  .*\n)*?  kind: (.+)$", "floppy"),
        "version": (r"^version: 1\n()", "version: 1\n"),
    }
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A file with one mistake, the key path that it is at, and its line."""

    path: str
    text: str
    line: int = 1


def samples(plain: Mapping[str, object]) -> Iterator[Sample]:
    """All samples of a sound configuration: in one line as JSON, which is YAML too, and in many."""
    nodes = plain["nodes"]
    assert isinstance(nodes, list), "the configuration has no list of nodes"
    for path, change in {**BREAKS, f"nodes.{len(nodes)}.name": TWICE}.items():
        yield Sample(path, json.dumps(broken(plain, change)))
    text = lines(plain)
    for path, (pattern, wrong) in LINES.items():
        found = re.search(pattern, text, re.MULTILINE)
        assert found, f"the configuration has no {path} in a line of its own; it can't be broken there"
        start, end = found.span(1)
        yield Sample(path, f"{text[:start]}{wrong}{text[end:]}", text.count("\n", 0, start) + 1)


def lines(plain: Mapping[str, object]) -> str:
    """The values as a file of one key a line."""
    return yaml.safe_dump(dict(plain), sort_keys=False)


def broken(plain: Mapping[str, object], change: Break) -> dict[str, Any]:
    """A copy of the values with one mistake in it."""
    copied = copy.deepcopy(dict(plain))
    change(copied)
    return copied
