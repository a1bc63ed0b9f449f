"""BeeGFS 8: the command ``beegfs``, which prints JSON, one object a line (``--output ndjson``).

Never run by us: servers of this generation could not be had. The names of columns and the forms of their values are
those of the tool's public source (ThinkParQ/beegfs-go v8.1.0 to v8.4.0, ctl/internal/cmd) and of doc.beegfs.io.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_ai_how.errors import AiHowError, CommandError
from pytest_ai_how.node import Node
from pytest_ai_how.services.beegfs.facts import KINDS, Entry, Kind, Route, Server, Target
from pytest_ai_how.services.bounded import bounded
from pytest_ai_how.shell import Result

# --node-type takes these (common/beegfs/nodetype.go).
_TYPES: Mapping[Kind, str] = {"management": "management", "metadata": "meta", "storage": "storage"}
# Machines of ours read here where the management daemon is and how to talk to it (templates/beegfs-tool.j2);
# elsewhere the tool finds out by the client that is mounted.
_ENVIRONMENT = "/etc/ai-how/beegfs-tool"
_RUN = f'[ ! -r {_ENVIRONMENT} ] || . {_ENVIRONMENT}; exec "$@"'
_PATTERN = re.compile(r"(?P<pattern>.+) \(\d+x(?P<chunk>\d+)\)")


class BeegfsTool:
    """``beegfs`` on one machine."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def targets(self, kind: Kind, *, space: bool = False) -> tuple[tuple[Target, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`. The management daemon itself knows the space."""
        names = {server.id: server for server in self.servers(kind)[0]}
        more = ("--capacity",) if space else ()
        told = self._ask("target", "list", "--node-type", _TYPES[kind], "--state", *more)
        return tuple(parse_targets(told.stdout, kind, names, self.node.name)), told

    def servers(self, kind: Kind) -> tuple[tuple[Server, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        told = self._ask("node", "list", "--node-type", _TYPES[kind])
        return tuple(parse_servers(told.stdout, kind, self.node.name)), told

    def entry(self, path: str) -> tuple[Entry, Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        told = self._ask("entry", "info", path)
        return parse_entry(told.stdout, self.node.name), told

    def routes(self) -> tuple[tuple[Route, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        found: list[Route] = []
        for kind in KINDS:
            told = self._ask("node", "list", "--node-type", _TYPES[kind], "--reachability-check")
            found += parse_routes(told.stdout, kind, self.node.name)
        return tuple(found), told

    def _ask(self, *argv: str) -> Result:
        told = bounded(self.node, "sh", "-c", _RUN, "sh", "beegfs", *argv, "--output", "ndjson", "--raw")
        if not told.ok:
            raise CommandError(told)
        return told


def parse_targets(text: str, kind: Kind, servers: Mapping[int, Server], where: str) -> Iterator[Target]:
    """Read ``beegfs target list --state [--capacity] --output ndjson --raw``.

    >>> line = ('{"id":{"num_id":101,"node_type":3},"type":3,"alias":"target_node01_1","node":"s:1",'
    ...         '"storage_pool":"s:1","reachability":"Online","last_contact":"3s ago","consistency":"Good",'
    ...         '"sync_state":"Healthy","cap_pool":"Normal","space":"1000","space_free":"900","inodes_free":"70"}')
    >>> [target] = parse_targets(line, "storage", {1: Server("storage", "node01", 1)}, "controller")
    >>> str(target), target.free, target.pool
    ('storage target 101 of node01: Online Good', 900, 'normal')
    """
    for row in _rows(text, where, "id", "node", "reachability", "consistency"):
        number = int(str(row["node"]).rpartition(":")[2]) if ":" in str(row["node"]) else 0
        yield Target(
            kind=kind,
            id=int(row["id"]["num_id"]),
            server=servers.get(number, Server(kind, str(row["node"]), number)),
            reachability=str(row["reachability"]) or "unknown",
            consistency=str(row["consistency"]) or "unknown",
            pool=str(row.get("cap_pool", "")).lower(),
            total=_number(row.get("space")),
            free=_number(row.get("space_free")),
            free_inodes=_number(row.get("inodes_free")),
        )


def parse_servers(text: str, kind: Kind, where: str) -> Iterator[Server]:
    """Read ``beegfs node list --output ndjson``.

    >>> list(parse_servers('{"id":{"num_id":1,"node_type":3},"type":3,"alias":"node01"}', "storage", "controller"))
    [Server(kind='storage', name='node01', id=1)]
    """
    for row in _rows(text, where, "id", "alias"):
        yield Server(kind, str(row["alias"]), int(row["id"]["num_id"]))


def parse_entry(text: str, where: str) -> Entry:
    """Read ``beegfs entry info PATH --output ndjson --raw``.

    >>> parse_entry('{"path":"/a","entry_id":"0-68A-1","type":2,"meta_node":"m:1","meta_mirror":"(unmirrored)",'
    ...   '"storage_pool":"(file)","stripe_pattern":"RAID0 (4x524288)","storage_targets":"s:101,s:201",'
    ...   '"storage_mirrors":"(unmirrored)"}', "controller")
    Entry(type='file', id='0-68A-1', pattern='RAID0', chunk=524288, targets=(101, 201))
    """
    rows = list(_rows(text, where, "entry_id", "type", "stripe_pattern", "storage_targets"))
    found = _PATTERN.fullmatch(str(rows[0]["stripe_pattern"])) if rows else None
    if found is None:
        raise AiHowError(where, f"beegfs entry info says {text!r}", expected="one entry with its stripe pattern")
    row = rows[0]
    targets = tuple(int(number) for number in re.findall(r"s:(\d+)", str(row["storage_targets"])))
    # Types are numbers (common/beegfs/entry.go): 1 is a folder, 2 a regular file.
    kind = {1: "directory", 2: "file"}.get(row["type"], str(row["type"]))
    return Entry(kind, str(row["entry_id"]), found["pattern"], int(found["chunk"]), targets)


def parse_routes(text: str, kind: Kind, where: str) -> Iterator[Route]:
    r"""Read ``beegfs node list --reachability-check --output ndjson``: a line of each column for each interface.

    >>> line = '{"id":{"num_id":1,"node_type":3},"type":3,"alias":"n","nics":"tcp:e (10.0.0.1:8003)","reachable":"no"}'
    >>> [route.reachable for route in parse_routes(line, "storage", "controller")]
    [False]
    """
    for row in _rows(text, where, "id", "alias", "nics", "reachable"):
        pairs = zip(str(row["nics"]).splitlines(), str(row["reachable"]).splitlines(), strict=False)
        at = next((nic for nic, answers in pairs if answers == "yes"), "")
        yield Route(Server(kind, str(row["alias"]), int(row["id"]["num_id"])), at)


def _rows(text: str, where: str, *wanted: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not set(wanted) <= row.keys():
            raise AiHowError(where, f"beegfs says {line[:200]!r}", expected=f"JSON with {', '.join(wanted)}")
        yield row


def _number(value: object) -> int | None:
    """A size as ``--raw`` prints it; '-' stands for one that the server did not tell."""
    return int(value) if isinstance(value, str) and value.isdigit() else None
