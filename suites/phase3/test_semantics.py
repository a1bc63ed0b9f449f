"""What programs may rely on when they share files: any file system that all nodes see has to keep it."""

from __future__ import annotations

import stat as modes
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations
from secrets import token_hex

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.deadline import Deadline, pause
from pytest_ai_how.node import Node
from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import Measurements
from pytest_ai_how.services.bounded import bounded, hung
from pytest_ai_how.services.storage import Storage

from ._payloads import answer, payload, tell

pytestmark = pytest.mark.requires("shared-storage")

#: What payloads/posix.py is to see, by operation (POSIX.1-2017).
POSIX: dict[str, object] = {
    "create": 5,
    "create twice": "EEXIST",
    "read": "alpha",
    "append": "alphabeta",
    "overwrite": "alXXabeta",
    "truncate": "alX",
    "grow": b"alX\0\0\0".hex(),
    "hole": [2**20 + 3, 2**20 - 6, "end"],
    "rename": [False, True],
    "rename over": "three",
    "chmod": "0o640",
    "chown": [65534, 65534],
    "times": 1000000001,
    "symbolic link": ["two", "three"],
    "hard link": [2, "three"],
    "hard link alone": [1, "three"],
    "nested": 1,
    "remove full": "ENOTEMPTY",
    "rename folder": "leaf",
    "deleted while open": "leaf",
    "delete": ["hard"],
    "read deleted": "ENOENT",
}
#: How long one node may take to see what another did; what is good is in the limits, this ends the waiting.
PATIENCE = 30.0
#: Seconds for all of that; each lock is a word with a server, and an emulated machine takes a minute.
TOGETHER = 240.0
#: How often each node appends a record, or counts one up: to count takes ten words with servers, while others wait.
TIMES = {"append": 200, "flock": 30, "lockf": 30}
#: The folders that jobs and tools rely on, below the mount: mode, and group (None: root's).
FOLDERS: dict[str, tuple[int, str]] = {
    "datasets": (0o775, "{user}"),
    "models": (0o775, "{user}"),
    "jobs": (0o1777, "root"),
    "huggingface": (0o1777, "root"),
    "evaluations": (0o1777, "root"),
    "containers": (0o775, "slurm"),
}


@pytest.mark.check("STO-12")
def test_file_operations(storage: Storage, scratch: str, evidence: Evidence) -> None:
    """Each operation on files and folders does what POSIX says, and another node sees what is left of it."""
    nodes = storage.cluster.on("compute")
    for node in nodes:
        folder = f"{scratch}/{node.name}"
        made = bounded(node, "mkdir", folder)
        evidence.result(made)
        assert made.ok, f"{node.name}: can't make {folder}: {made.stderr.strip() or 'hung'}"
        seen = tell(node, "posix.py", folder, evidence=evidence)
        wrong = {name: seen.get(name) for name, wanted in POSIX.items() if seen.get(name) != wanted}
        first = next(iter(wrong), "")
        assert not wrong, (
            f"{node.name}: {first} in {folder} gave {wrong.get(first)!r}, expected {POSIX.get(first)!r} "
            f"({len(wrong)} of {len(POSIX)} operations are wrong: {', '.join(wrong)})"
        )
    form = ("-printf", r"%P %y %m %n %U %s\n")
    for node in storage.cluster.all:
        listed = bounded(node, "find", scratch, "-mindepth", "2", *form)
        evidence.result(listed)
        assert not hung(listed), f"{node.name}: listing {scratch} hung"
        wanted = sorted(f"{one.name}/hard f 640 1 65534 5" for one in nodes)
        assert sorted(listed.stdout.splitlines()) == wanted, (
            f"{node.name}: sees {listed.stdout.splitlines()} in {scratch}, expected {wanted}"
        )


@pytest.mark.check("STO-13")
@pytest.mark.requires("machines.several")
def test_coherence(storage: Storage, scratch: str, evidence: Evidence, culprit: Culprit, measure: Measurements) -> None:
    """What one node creates, appends, replaces, cuts short and removes, each other node sees at once."""
    names = storage.cluster.all.names
    assert len(names) > 1, f"{storage.cluster.name}: one machine; nobody else could see what it writes"
    slowest = culprit.of(names, lambda some: slowest_sight(storage, scratch, evidence, some), least=2)
    for name, took in slowest.items():
        measure("storage.visibility", took, "s", node=name)


def slowest_sight(storage: Storage, scratch: str, evidence: Evidence, names: Sequence[str]) -> dict[str, float]:
    """How long it took at most until each node saw what any other did, in seconds."""
    slowest: dict[str, float] = {}
    lines = []
    try:
        for writer, reader in permutations([storage.cluster[name] for name in names], 2):
            # Not the same twice: what is left of a former one must not pass for the new one.
            path = f"{scratch}/{writer.name}-{reader.name}-{token_hex(3)}"
            for deed, took in sights(writer, reader, path):
                lines.append(f"{writer.name} -> {reader.name}: {deed}: {took:.3f} s")
                slowest[reader.name] = max(took, slowest.get(reader.name, 0.0))
    finally:
        evidence.attach("what was seen when", "\n".join(lines))
    return slowest


def sights(writer: Node, reader: Node, path: str) -> Iterator[tuple[str, float]]:
    """Change a file on one node; of each change, when another node saw it, in seconds."""
    for deed, command, wanted in changes(path):
        # Looked at before: what a client remembers of a file must not outlive the change.
        look(reader, path)
        done = bounded(writer, "sh", "-c", command)
        assert done.ok, f"{writer.name}: {deed} of {path} failed with {done.returncode}: {done.stderr.strip()}"
        took, seen = await_sight(reader, path, wanted)
        assert seen == wanted, (
            f"{reader.name}: {deed} on {writer.name}: {path} still reads as {seen!r} after {took:.1f} s, "
            f"expected {wanted!r}"
        )
        yield deed, took


def changes(path: str) -> tuple[tuple[str, str, str], ...]:
    """What a writer does to a file, one after the other: its name, the command, and what the file then reads as."""
    return (
        ("creating", f"printf alpha >{path}", "5 alpha"),
        ("appending", f"printf beta >>{path}", "9 alphabeta"),
        ("replacing", f"printf gamma-delta >{path}.new && mv {path}.new {path}", "11 gamma-delta"),
        ("truncating", f"truncate --size=5 {path}", "5 gamma"),
        ("removing", f"rm {path}", "nothing"),
    )


def look(reader: Node, path: str) -> str:
    """The size and the content of a file as a node sees it now: ``5 alpha``, or ``nothing``."""
    told = bounded(reader, "sh", "-c", f"stat --format=%s {path} 2>/dev/null && cat {path}")
    if hung(told):
        return "hung"
    size, _, content = told.stdout.partition("\n")
    return f"{size} {content}" if told.ok else "nothing"


def await_sight(reader: Node, path: str, wanted: str) -> tuple[float, str]:
    """Look until a node sees what it should, at most for :data:`PATIENCE`: after how long it was seen, and what.

    That is when the look began that saw it: to look takes an emulated machine a second, which is not the file system's.
    """
    since = Deadline(PATIENCE)
    while True:
        began = since.seconds - since.left
        seen = look(reader, path)
        if seen == wanted:
            return began, seen
        if since.passed:
            return since.seconds - since.left, seen
        pause(0.02)


@pytest.mark.check("STO-14")
@pytest.mark.requires("machines.several")
@pytest.mark.parametrize("what", list(TIMES))
def test_together(storage: Storage, scratch: str, evidence: Evidence, what: str) -> None:
    """All nodes at once append records to one file, or count one number up under a lock, and nothing is lost."""
    nodes, times = storage.cluster.all, TIMES[what]
    assert len(nodes) > 1, f"{storage.cluster.name}: one machine; nobody could disturb it"
    nodes[0].sh(f"printf 0 >{scratch}/number")
    words = ("python3", "-", what, scratch)
    told = nodes.map(
        lambda node: bounded(
            node, *words, node.name, str(len(nodes)), str(times), within=TOGETHER, input=payload("together.py")
        )
    )
    spans = {}
    for name, result in told.items():
        evidence.result(result)
        spans[name] = answer(result, "together.py")
    begun, ended = max(span["begun"] for span in spans.values()), min(span["ended"] for span in spans.values())
    evidence.attach("all of them at work", f"for {ended - begun:.3f} s")
    if what == "append":
        records = bounded(nodes[-1], "cat", f"{scratch}/records", within=60)
        missing = missing_records(records.stdout, nodes.names, times)
        assert not missing, (
            f"{nodes[-1].name}: {scratch}/records lacks {len(missing)} of {len(nodes) * times} records that nodes "
            f"appended at once, the first {missing[0]!r}; on BeeGFS, see tuneUseGlobalAppendLocks"
        )
        return
    number = bounded(nodes[-1], "cat", f"{scratch}/number")
    evidence.result(number)
    assert number.stdout.strip() == str(len(nodes) * times), (
        f"{nodes[-1].name}: {len(nodes)} nodes counted {times} each under {what}, {scratch}/number is "
        f"{number.stdout.strip()!r}, expected {len(nodes) * times}; on BeeGFS, see tuneUseGlobalFileLocks"
    )


def missing_records(text: str, names: tuple[str, ...], times: int) -> list[str]:
    """Which of the records that each node wrote are not there exactly once, in the order they were written."""
    found = Counter(text.splitlines())
    wanted = [f"{name} {number:06d}" for name in names for number in range(times)]
    return [record for record in wanted if found[record] != 1]


@pytest.mark.check("STO-16")
def test_extended_attributes(cluster: Cluster, storage: Storage, scratch: str, evidence: Evidence) -> None:
    """A file keeps a user's attribute and other nodes read it; where they are off, setting one is refused."""
    writer, *others = cluster.all
    path = f"{scratch}/file"
    writer.run("touch", path)
    switch = switched(writer, storage.kind, evidence)
    seen = tell(writer, "xattr.py", path, "right", evidence=evidence)
    if not switch:
        assert seen == {"error": "EOPNOTSUPP"}, (
            f"{writer.name}: extended attributes are off (sysXAttrsEnabled), yet setting one gave {seen}; "
            "expected EOPNOTSUPP"
        )
        return
    for node in (writer, *others):
        seen = tell(node, "xattr.py", path, evidence=evidence)
        assert (seen.get("value"), "user.ai_how" in seen.get("names", ())) == ("right", True), (
            f"{node.name}: attribute user.ai_how of {path} reads as {seen}; expected 'right', set on {writer.name}"
        )


def switched(node: Node, kind: str, evidence: Evidence) -> bool:
    """Whether extended attributes are configured: BeeGFS's client has a switch, other file systems just have them."""
    if kind != "beegfs":
        return True
    told = bounded(node, "sh", "-c", "exec grep -h sysXAttrsEnabled /proc/fs/beegfs/*/config")
    evidence.result(told)
    return told.stdout.split()[-1:] in (["1"], ["true"])


@pytest.mark.check("STO-34")
@pytest.mark.requires("storage.tree")
@pytest.mark.parametrize("name", list(FOLDERS))
def test_folders(storage: Storage, evidence: Evidence, name: str) -> None:
    """The folder that jobs and tools rely on is there on every node, with the right mode and group."""
    config = storage.cluster.config
    path = config.registry if name == "containers" else f"{storage.mount}/{name}"
    mode, group = FOLDERS[name]
    wanted = (modes.filemode(modes.S_IFDIR | mode), group.format(user=config.user))
    for node in storage.cluster.all:
        shown = bounded(node, "stat", "--format=%A %G", "--", path)
        evidence.result(shown)
        assert shown.ok, f"{node.name}: no {path}: {shown.stderr.strip() or 'no word why'}; expected a folder"
        assert tuple(shown.stdout.split()) == wanted, (
            f"{node.name}: {path} is {shown.stdout.strip()}, expected {' '.join(wanted)}"
        )
