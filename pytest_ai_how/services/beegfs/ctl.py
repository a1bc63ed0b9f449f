"""BeeGFS 7.4: ``beegfs-ctl`` and ``beegfs-check-servers``, which print text for people.

The forms of their output are those of 7.4.7's own source (ctl/source/modes/Mode{ListTargets,GetNodes,GetEntryInfo}.cpp,
utils/scripts/beegfs-check-servers).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_ai_how.errors import AiHowError, CommandError
from pytest_ai_how.node import Node
from pytest_ai_how.services.beegfs.facts import KINDS, Entry, Kind, Route, Server, Target
from pytest_ai_how.services.bounded import bounded
from pytest_ai_how.shell import Result

# Sizes are printed with one digit after the point (%9.1fGiB), inodes in millions (%10.1fM).
_GIB, _MILLION = 2**30, 10**6
_SERVER = r"(?P<name>\S.*) \[ID: (?P<id>\d+)\]"
_TARGET = re.compile(
    r"\s*(?P<target>\d+)\s+(?:(?P<reachability>[A-Z]\S+)\s+(?P<consistency>[A-Za-z]\S+)|<invalid_value>)"
    r"\s+(?P<pool>[a-z]+)"
    r"(?:\s+(?P<total>[\d.]+)GiB\s+(?P<free>[\d.]+)GiB\s+\d+%\s+[\d.]+M\s+(?P<inodes>[\d.]+)M\s+\d+%)?"
    rf"\s+beegfs-(?:meta|storage) {_SERVER}"
)
_REACHABLE = re.compile(rf"{_SERVER}: (?:reachable at (?P<at>.+)|UNREACHABLE)")
_ASKED = re.compile(rf"^{_SERVER}\n +Reachable: <(?P<answers>yes|no)>\n +Route: (?P<at>.+)$", re.MULTILINE)
_STRIPED = re.compile(r"\s+\+ (\d+)(?: @ .*)?")
# UnitTk::int64ToHumanStr: a power of 1024 and its letter, or bare bytes.
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


class Ctl:
    """``beegfs-ctl`` on one machine; it reads ``/etc/beegfs/beegfs-client.conf`` there."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def targets(self, kind: Kind, *, space: bool = False) -> tuple[tuple[Target, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`. Exits with 0 whatever the states are (7.4.7)."""
        more = ("--spaceinfo",) if space else ()
        words = (f"--nodetype={kind}", "--longnodes", "--state", "--pools", *more)
        told = _successful(bounded(self.node, "beegfs-ctl", "--listtargets", *words))
        return tuple(parse_targets(told.stdout, kind, self.node.name)), told

    def servers(self, kind: Kind) -> tuple[tuple[Server, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        told = _successful(bounded(self.node, "beegfs-ctl", "--listnodes", f"--nodetype={kind}"))
        return tuple(parse_servers(told.stdout, kind)), told

    def entry(self, path: str) -> tuple[Entry, Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`."""
        told = _successful(bounded(self.node, "beegfs-ctl", "--getentryinfo", path))
        return parse_entry(told.stdout, self.node.name), told

    def routes(self) -> tuple[tuple[Route, ...], Result]:
        """See :class:`~pytest_ai_how.services.beegfs.facts.Tool`. With ``-e`` it exits with 1 when one is gone."""
        told = bounded(self.node, "beegfs-check-servers", "-e", within=60.0)
        found = tuple(parse_routes(told.stdout, told.stderr))
        if not found:
            raise CommandError(told)
        return found, told


def parse_targets(text: str, kind: Kind, where: str) -> Iterator[Target]:
    """Read ``beegfs-ctl --listtargets --longnodes --state --pools [--spaceinfo]`` (7.4.7).

    >>> text = '''
    ... TargetID     Reachability  Consistency   Cap. Pool   NodeID
    ... ========     ============  ===========   =========   ======
    ...        2           Online         Good      normal   beegfs-storage node01 [ID: 1]
    ... '''
    >>> [str(target) for target in parse_targets(text, "storage", "controller")]
    ['storage target 2 of node01: Online Good']
    """
    for line in text.splitlines():
        if not line.strip() or "TargetID" in line or set(line.split()) == {"=" * len(word) for word in line.split()}:
            continue
        if (found := _TARGET.fullmatch(line)) is None:
            raise AiHowError(where, f"beegfs-ctl --listtargets says {line!r}", expected="a line of its table")
        total, free, inodes = found["total"], found["free"], found["inodes"]
        yield Target(
            kind=kind,
            id=int(found["target"]),
            server=Server(kind, found["name"], int(found["id"])),
            reachability=found["reachability"] or "unknown",
            consistency=found["consistency"] or "unknown",
            pool=found["pool"],
            total=None if total is None else round(float(total) * _GIB),
            free=None if free is None else round(float(free) * _GIB),
            free_inodes=None if inodes is None else round(float(inodes) * _MILLION),
        )


def parse_servers(text: str, kind: Kind) -> Iterator[Server]:
    r"""Read ``beegfs-ctl --listnodes`` (7.4.7).

    >>> list(parse_servers("node01 [ID: 1]\nnode02 [ID: 2]\n", "storage"))[1]
    Server(kind='storage', name='node02', id=2)
    """
    for line in text.splitlines():
        if found := re.fullmatch(_SERVER, line):
            yield Server(kind, found["name"], int(found["id"]))


def parse_entry(text: str, where: str) -> Entry:
    """Read ``beegfs-ctl --getentryinfo`` (7.4.7).

    >>> parse_entry('''Entry type: file
    ... EntryID: 0-5D285750-1
    ... Metadata node: controller [ID: 1]
    ... Stripe pattern details:
    ... + Type: RAID0
    ... + Chunksize: 512K
    ... + Number of storage targets: desired: 4; actual: 2
    ... + Storage targets:
    ...   + 1 @ node01 [ID: 1]
    ...   + 2 @ node02 [ID: 2]
    ... ''', "controller")
    Entry(type='file', id='0-5D285750-1', pattern='RAID0', chunk=524288, targets=(1, 2))
    """
    facts = dict(re.findall(r"^(?:\+ )?([A-Z][A-Za-z ]*): *(.*)$", text, re.MULTILINE))
    size = re.fullmatch(r"(\d+)([KMGTPE]?)", facts.get("Chunksize", ""))
    if size is None or not {"Entry type", "EntryID", "Type"} <= facts.keys():
        raise AiHowError(where, f"beegfs-ctl --getentryinfo says {text!r}", expected="its lines on an entry's pattern")
    listed = text.partition("+ Storage targets:\n")[2] or text.partition("+ Storage mirror buddy groups:\n")[2]
    targets = [int(found[1]) for line in listed.splitlines() if (found := _STRIPED.fullmatch(line))]
    chunk = int(size[1]) * 1024 ** _POWERS[size[2]]
    return Entry(facts["Entry type"], facts["EntryID"], facts["Type"], chunk, tuple(targets))


def parse_routes(out: str, err: str) -> Iterator[Route]:
    r"""Read ``beegfs-check-servers -e`` (7.4.7).

    It prints what is reachable, kind by kind; at the first kind with a server that is gone it ends, with what
    ``beegfs-ctl --listnodes --reachable`` said on standard error.

    >>> err = "node02 [ID: 2]\n   Reachable: <no>\n   Route: <skipped unreachable>\n"
    >>> out = "Management\n==========\ncontroller [ID: 1]: reachable at 10.0.0.10:8008\n\nStorage\n==========\n"
    >>> [(route.server.name, route.reachable) for route in parse_routes(out, err)]
    [('controller', True), ('node02', False)]
    """
    kind = KINDS[0]
    for line in out.splitlines():
        kind = next((one for one in KINDS if one == line.strip().lower()), kind)
        if found := _REACHABLE.fullmatch(line):
            yield Route(Server(kind, found["name"], int(found["id"])), found["at"] or "")
    for found in _ASKED.finditer(err):
        yield Route(Server(kind, found["name"], int(found["id"])), found["at"] if found["answers"] == "yes" else "")


def _successful(result: Result) -> Result:
    if not result.ok:
        raise CommandError(result)
    return result
