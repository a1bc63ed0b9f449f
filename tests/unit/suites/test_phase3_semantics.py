"""The checks of what files promise go red on a file system that breaks it, and name the node."""

from __future__ import annotations

import json

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.shell import Result
from suites.phase3 import test_integrity as integrity
from suites.phase3 import test_semantics as semantics
from tests.unit.services.beegfs.sample import beegfs_config

from .phase3_fakes import KILLED, Rules, new_measure, says, storage

SCRATCH = "/mnt/shared/.ai-how-x"


@pytest.fixture
def measure(evidence: Evidence) -> Measurements:
    return new_measure(evidence)


LEFT = "node01/hard f 640 1 65534 5\nnode02/hard f 640 1 65534 5\n"


def posix(seen: object = None, left: str = LEFT) -> Rules:
    answer = json.dumps(semantics.POSIX if seen is None else seen)
    return [(says("mkdir"), ""), (says("python3 -"), answer), (says("find"), left)]


@pytest.mark.seen_to_fail("STO-12")
def test_file_operations_that_are_wrong(evidence: Evidence) -> None:
    check = semantics.test_file_operations
    check(storage({"*": posix()}), SCRATCH, evidence)
    with pytest.raises(
        AssertionError,
        match=r"^node02: truncate in /mnt/shared/\S+ gave 'alp', expected 'alX' \(1 of 22 operations",
    ):
        check(storage({"*": posix(), "node02": posix({**semantics.POSIX, "truncate": "alp"})}), SCRATCH, evidence)
    with pytest.raises(AssertionError, match=r"^node01: create in /mnt/shared/\S+ gave None, expected 5 \(22 of 22"):
        check(storage({"*": posix({})}), SCRATCH, evidence)
    with pytest.raises(AssertionError, match=r"^controller: sees \['node01/hard f 644 1 65534 5'\] in /mnt/shared"):
        check(storage({"*": posix(), "controller": posix(left="node01/hard f 644 1 65534 5\n")}), SCRATCH, evidence)
    died = Result((), 1, stderr="Traceback\nOSError: [Errno 5] Input/output error\n")
    refused = Result((), 1, stderr="mkdir: cannot create directory: Read-only file system\n")
    with pytest.raises(AssertionError, match=r"^node01: can't make /mnt/shared/\S+/node01: mkdir: .* Read-only"):
        check(storage({"*": [(says("mkdir"), refused)]}), SCRATCH, evidence)
    with pytest.raises(AssertionError, match=r"^node01: posix.py ended with 1: OSError: \[Errno 5\] Input/output"):
        check(storage({"*": [(says("mkdir"), ""), (says("python3"), died)]}), SCRATCH, evidence)
    with pytest.raises(AssertionError, match=r"^node01: posix.py hung on the shared file system and was killed"):
        check(storage({"*": [(says("mkdir"), ""), (says("python3"), KILLED)]}), SCRATCH, evidence)


class Files:
    """A file that all nodes share, but for one node that sees it ``late`` looks later, or never."""

    def __init__(self, late: int = 0) -> None:
        self.late, self.state, self.looks = late, "nothing", 0

    def do(self, argv: tuple[str, ...]) -> str:
        wanted = {deed: after for _, deed, after in semantics.changes(argv[-1].split()[-1].lstrip(">"))}
        self.state, self.looks = next(after for deed, after in wanted.items() if deed == argv[-1]), 0
        return ""

    def see(self, argv: tuple[str, ...]) -> Result:
        self.looks += 1
        if self.state == "nothing" or self.looks <= self.late:
            return Result((), 1)
        size, _, content = self.state.partition(" ")
        return Result((), 0, f"{size}\n{content}")

    def rules(self) -> Rules:
        return [(says("stat --format"), self.see), (says("sh -c"), self.do)]


BLAMED = r"fails wherever it takes part; the other 2 nodes pass without it \(\d re-runs\): "


@pytest.mark.seen_to_fail("STO-13")
def test_a_node_that_sees_changes_late_or_never(
    evidence: Evidence, measure: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(rules: dict[str, Rules]) -> None:
        semantics.test_coherence(storage(rules), SCRATCH, evidence, Culprit(evidence), measure)

    right = Files().rules()
    check({"*": right})
    monkeypatch.setattr(semantics, "PATIENCE", 0.05)
    with pytest.raises(
        AssertionError,
        match=rf"^node01: {BLAMED}node01: creating on controller: /mnt/shared/\S+/controller-node01-\w+ still reads as "
        r"'nothing' after 0\.\d s, expected '5 alpha'",
    ):
        check({"*": right, "node01": [(says("stat --format"), Result((), 1)), *right]})
    with pytest.raises(
        AssertionError,
        match=r"^controller \+ node01 \+ node02: fail together, and can't be tried apart: no other nodes are known to",
    ):
        check({"*": Files(late=9999).rules()})
    refused: Rules = [(says("printf"), Result((), 1, stderr="Read-only\n")), *right]
    with pytest.raises(AssertionError, match=rf"^node02: {BLAMED}node02: creating of .* failed with 1: Read-only"):
        check({"*": right, "node02": refused})
    hung: Rules = [(says("stat --format"), KILLED), (says("sh -c"), "")]
    with pytest.raises(AssertionError, match=rf"^node01: {BLAMED}node01: creating on controller: .* reads as 'hung'"):
        check({"*": right, "node01": hung})


@pytest.mark.seen_to_fail("STO-13")
def test_two_nodes_that_only_do_not_see_each_other_s_changes(
    evidence: Evidence, measure: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    sights = semantics.await_sight
    monkeypatch.setattr(semantics, "PATIENCE", 0.01)
    monkeypatch.setattr(
        semantics,
        "await_sight",
        lambda reader, path, wanted: (0.1, "stale") if "node01-node02" in path else sights(reader, path, wanted),
    )
    with pytest.raises(
        AssertionError, match=r"^node01 <-> node02: fail together, and neither without the other: it is"
    ):
        semantics.test_coherence(storage({"*": Files().rules()}), SCRATCH, evidence, Culprit(evidence), measure)


@pytest.mark.seen_to_fail("STO-13")
def test_a_node_that_sees_changes_after_more_than_a_second(
    evidence: Evidence, measure: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semantics, "await_sight", lambda reader, path, wanted: (1.5, wanted))
    with pytest.raises(LimitExceeded, match=r"^node01: storage\.visibility is 1\.5 s, expected at most 1 s"):
        semantics.test_coherence(storage({"*": Files().rules()}), SCRATCH, evidence, Culprit(evidence), measure)


SPAN = '{"node": "x", "begun": 10.0, "ended": 11.0, "times": 1}\n'


def together(number: str = "0", records: str = "", told: str | Result = SPAN) -> Rules:
    return [
        (("sh",), ""),
        (says("/records"), records),
        (says("/number"), number),
        (says("python3 -"), told),
    ]


ALL = "".join(f"{name} {n:06d}\n" for n in range(200) for name in ("controller", "node01", "node02"))


@pytest.mark.seen_to_fail("STO-14")
def test_records_and_counts_that_are_lost(evidence: Evidence) -> None:
    check = semantics.test_together
    check(storage({"*": together(records=ALL)}), SCRATCH, evidence, "append")
    check(storage({"*": together("90\n")}), SCRATCH, evidence, "flock")
    torn = ALL.replace("node01 000007\nnode02 000007\n", "node01 0000node02 000007\n07\n")
    with pytest.raises(
        AssertionError, match=r"^node02: \S+/records lacks 2 of 600 records .* the first 'node01 000007'; on BeeGFS"
    ):
        check(storage({"*": together(records=torn)}), SCRATCH, evidence, "append")
    with pytest.raises(AssertionError, match=r"^node02: \S+/records lacks 600 of 600 records"):
        check(storage({"*": together()}), SCRATCH, evidence, "append")
    with pytest.raises(
        AssertionError,
        match=r"^node02: 3 nodes counted 30 each under lockf, \S+/number is '207', expected 90; on Bee",
    ):
        check(storage({"*": together("207\n")}), SCRATCH, evidence, "lockf")
    alone = Result((), 1, stderr="node02: the others did not come within 60 s: []\n")
    with pytest.raises(AssertionError, match=r"^node02: together.py ended with 1: node02: the others did not come"):
        check(storage({"*": together("90"), "node02": together(told=alone)}), SCRATCH, evidence, "flock")


@pytest.mark.seen_to_fail("STO-16")
def test_attributes_that_are_lost_or_kept_though_they_are_off(evidence: Evidence) -> None:
    def attributes(value: str = "right", *, error: str = "", switch: str = "1") -> Rules:
        answer = json.dumps({"error": error} if error else {"value": value, "names": ["user.ai_how"]})
        settings = f"sysXAttrsEnabled = {switch}\n"
        return [(("touch",), ""), (says("sysXAttrsEnabled"), settings), (says("python3 -"), answer)]

    def check(scripts: dict[str, Rules], *, on_beegfs: bool = False) -> None:
        made = storage(scripts, beegfs_config() if on_beegfs else None)
        semantics.test_extended_attributes(made.cluster, made, SCRATCH, evidence)

    check({"*": attributes()})
    check({"*": attributes(error="EOPNOTSUPP", switch="0")}, on_beegfs=True)
    with pytest.raises(AssertionError, match=r"^node02: attribute user\.ai_how of \S+ reads as \{'value': 'wrong'"):
        check({"*": attributes(), "node02": attributes("wrong")})
    with pytest.raises(
        AssertionError, match=r"^controller: attribute user\.ai_how .* reads as \{'error': 'EOPNOTSUPP'\}"
    ):
        check({"*": attributes(error="EOPNOTSUPP")}, on_beegfs=True)
    with pytest.raises(AssertionError, match=r"^controller: extended attributes are off .*, yet setting one gave"):
        check({"*": attributes(switch="0")}, on_beegfs=True)


@pytest.mark.seen_to_fail("STO-34")
def test_folders_that_are_missing_or_closed(evidence: Evidence) -> None:
    def check(answer: str | Result, name: str = "models") -> None:
        right: Rules = [(says("stat"), "drwxrwxr-x hpc\n")]
        semantics.test_folders(storage({"*": right, "node02": [(says("stat"), answer)]}), evidence, name)

    check("drwxrwxr-x hpc\n")
    with pytest.raises(
        AssertionError, match=r"^node02: /mnt/shared/models is drwxr-xr-x root, expected drwxrwxr-x hpc"
    ):
        check("drwxr-xr-x root\n")
    with pytest.raises(AssertionError, match=r"^node02: no /mnt/shared/models: stat: No such file"):
        check(Result((), 1, stderr="stat: No such file or directory\n"))
    with pytest.raises(
        AssertionError, match=r"^controller: /mnt/shared/jobs is drwxrwxr-x hpc, expected drwxrwxrwt root"
    ):
        check("drwxrwxrwt root\n", "jobs")


@pytest.mark.seen_to_fail("STO-11")
def test_storage_that_is_full_or_does_not_answer(evidence: Evidence, measure: Measurements) -> None:
    def check(answer: str | Result) -> None:
        room: Rules = [(says("stat --file-system"), f"{20 * 2**18} 4096\n")]
        made = storage({"*": room, "node02": [(says("stat --file-system"), answer)]})
        integrity.test_capacity(made, evidence, measure)

    check(f"{10 * 2**18} 4096\n")
    with pytest.raises(LimitExceeded, match=r"^node02: storage\.free is 1 GiB, expected at least 9\.3 GiB"):
        check(f"{2**18} 4096\n")
    with pytest.raises(AssertionError, match=r"^node02: asking how much is free at /mnt/shared hung"):
        check(KILLED)
    with pytest.raises(AssertionError, match=r"^node02: /mnt/shared: stat: cannot read"):
        check(Result((), 1, stderr="stat: cannot read file system information\n"))


DIGEST = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
SIZE = 954 * 2**20


@pytest.mark.seen_to_fail("STO-15")
def test_data_that_reads_as_something_else(evidence: Evidence, measure: Measurements) -> None:
    limits = load_limits("local")

    def check(read: str | Result, wrote: str | Result = f"{DIGEST}  -\n") -> None:
        right = f"{SIZE}\n{DIGEST}  {SCRATCH}/random\n"
        made = storage(
            {
                "*": [(says("stat --format"), right), (says("urandom"), wrote)],
                "node02": [(says("stat --format"), read)],
            }
        )
        integrity.test_integrity(made, SCRATCH, evidence, measure, limits)

    check(f"{SIZE}\n{DIGEST}  x\n")
    with pytest.raises(
        AssertionError, match=r"^node02: \S+/random, written on node01, reads with sha256 0000000000000000,"
    ):
        check(f"{SIZE}\n{'0' * 64}  x\n")
    with pytest.raises(AssertionError, match=rf"^node02: \S+, written on node01, has 4096 bytes, expected {SIZE}"):
        check(f"4096\n{DIGEST}  x\n")
    with pytest.raises(AssertionError, match=r"^node02: \S+, written on node01, has no bytes, expected"):
        check(Result((), 1, stderr="stat: No such file"))
    with pytest.raises(AssertionError, match=r"^node02: reading \S+ did not end within 300 s"):
        check(KILLED)
    with pytest.raises(AssertionError, match=r"^node01: writing 954 MiB to \S+ did not end within 300 s"):
        check("", KILLED)
    with pytest.raises(AssertionError, match=r"^node01: writing \S+ ended with 1: sync: error syncing"):
        check("", Result((), 1, f"{DIGEST}  -\n", "sync: error syncing: No space left on device\n"))
