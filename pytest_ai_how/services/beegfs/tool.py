"""BeeGFS 8: the command ``beegfs``, which prints JSON, one object a line (``--output ndjson``).

The samples are of 8.3.1, built from its public source. The names of columns and the forms of their values are the same
in the tool's source from v8.1.0 to v8.4.0 (ThinkParQ/beegfs-go, ctl/internal/cmd). What it says of the licence goes to
its standard error; without the library that reads licences all answers end with status 1.
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
# ethernet:eth0 (10.0.0.1:8008,8010), ethernet:lo ([::1]:8008,8010)
_ADDRESS = re.compile(r"\(\[?(?P<address>[^\s\[\]]+?)\]?:[\d,]+\)")


class BeegfsTool:
    """``beegfs`` on one machine. Servers are called by the names that ``machines`` has for their addresses."""

    def __init__(self, node: Node, machines: Mapping[str, str]) -> None:
        self.node, self.machines = node, machines

    def targets(self, kind: Kind, *, space: bool = False) -> tuple[tuple[Target, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`. The management daemon itself knows the space."""
        names = {server.id: server for server in self.servers(kind)[0]}
        more = ("--capacity",) if space else ()
        told = self._ask("target", "list", "--node-type", _TYPES[kind], "--state", *more)
        return tuple(parse_targets(told.stdout, kind, names, self.node.name)), told

    def servers(self, kind: Kind) -> tuple[tuple[Server, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        told = self._ask("node", "list", "--node-type", _TYPES[kind], "--with-nics")
        return tuple(parse_servers(told.stdout, kind, self.node.name, self.machines)), told

    def entry(self, path: str) -> tuple[Entry, Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        told = self._ask("entry", "info", path)
        return parse_entry(told.stdout, self.node.name), told

    def routes(self) -> tuple[tuple[Route, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        found: list[Route] = []
        for kind in KINDS:
            told = self._ask("node", "list", "--node-type", _TYPES[kind], "--reachability-check")
            found += parse_routes(told.stdout, kind, self.node.name, self.machines)
        return tuple(found), told

    def _ask(self, *argv: str) -> Result:
        told = bounded(self.node, "sh", "-c", _RUN, "sh", "beegfs", *argv, "--output", "ndjson", "--raw")
        if not told.ok:
            raise CommandError(told)
        return told


def parse_targets(text: str, kind: Kind, servers: Mapping[int, Server], where: str) -> Iterator[Target]:
    """Read ``beegfs target list --state [--capacity] --output ndjson --raw``.

    >>> line = ('{"alias":"target_storage_101","cap_pool":"Normal","consistency":"Good",'
    ...         '"id":{"num_id":101,"node_type":3},"inodes":"80","inodes_free":"70","inodes_used":"10 (12.50%)",'
    ...         '"last_contact":"3s ago","node":"s:1","reachability":"Online","space":"1000","space_free":"900",'
    ...         '"space_used":"100 (10.00%)","storage_pool":"s:1","sync_state":"Healthy","type":3}')
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


def parse_servers(text: str, kind: Kind, where: str, machines: Mapping[str, str]) -> Iterator[Server]:
    """Read ``beegfs node list --with-nics --output ndjson``; ``machines`` are names by address.

    A server has its machine's name: its own is an alias that the management daemon made up, or that somebody chose.

    >>> line = ('{"alias":"node_storage_1","id":{"num_id":1,"node_type":3},"nics":"ethernet:v0 (10.0.0.11:8003)",'
    ...         '"type":3}')
    >>> list(parse_servers(line, "storage", "controller", {"10.0.0.11": "node01"}))
    [Server(kind='storage', name='node01', id=1)]
    >>> list(parse_servers(line, "storage", "controller", {}))
    [Server(kind='storage', name='node_storage_1', id=1)]
    """
    for row in _rows(text, where, "id", "alias", "nics"):
        yield _server(row, kind, machines)


def parse_entry(text: str, where: str) -> Entry:
    """Read ``beegfs entry info PATH --output ndjson --raw``.

    >>> parse_entry('{"access":0,"entry_id":"1-6B09F254-1","meta_mirror":"(unmirrored)","meta_node":"m:1",'
    ...   '"path":"/f1","remote_targets":"(none)","state":0,"storage_mirrors":"(unmirrored)","storage_pool":"(file)",'
    ...   '"storage_targets":"s:101,s:201","stripe_pattern":"RAID0 (4x524288)","type":2}', "controller")
    Entry(type='file', id='1-6B09F254-1', pattern='RAID0', chunk=524288, targets=(101, 201))
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


def parse_routes(text: str, kind: Kind, where: str, machines: Mapping[str, str]) -> Iterator[Route]:
    r"""Read ``beegfs node list --reachability-check --output ndjson``: a line of each column for each interface.

    >>> line = (r'{"alias":"management","id":{"num_id":1,"node_type":4},"nics":"ethernet:lo (127.0.0.1:8008,8010)\n'
    ...         r'ethernet:v0 (10.0.0.1:8008,8010)\nethernet:lo ([::1]:8008,8010)","reachable":"no\nyes\nno","type":4}')
    >>> [route] = parse_routes(line, "management", "controller", {"10.0.0.1": "controller"})
    >>> route.server.name, route.at
    ('controller', 'ethernet:v0 (10.0.0.1:8008,8010)')
    """
    for row in _rows(text, where, "id", "alias", "nics", "reachable"):
        pairs = zip(str(row["nics"]).splitlines(), str(row["reachable"]).splitlines(), strict=False)
        at = next((nic for nic, answers in pairs if answers == "yes"), "")
        yield Route(_server(row, kind, machines), at)


def _server(row: Mapping[str, Any], kind: Kind, machines: Mapping[str, str]) -> Server:
    alias = str(row["alias"])
    addresses = () if alias in machines.values() else _ADDRESS.findall(str(row["nics"]))
    name = next((machines[address] for address in addresses if address in machines), alias)
    return Server(kind, name, int(row["id"]["num_id"]))


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
