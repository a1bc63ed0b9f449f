"""Facts: read in one round trip, understood or told why not, and told once."""

from __future__ import annotations

import re

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import FactError, TransportError
from pytest_ai_how.facts import Fact, Readings, read, script
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport, LocalTransport

KERNEL = Fact("the kernel's release", ("uname", "-r"), str)
LINES = Fact("two lines", ("printf", "one\\n$HOME two\\n\\n"), str.splitlines)
GONE = Fact("what is not there", ("no-such-program", "--really"), str)
COUNT = Fact("a number", ("echo", "many"), int)
GREP = Fact("lines found", ("grep", "-c", "x", "/dev/null"), int, frozenset({0, 1}))
HUNGRY = Fact("input", ("cat",), str)
SHOUTS = Fact("both streams", ("sh", "-c", "echo out; echo err >&2; exit 3"), str)


def machine(name: str = "node01") -> Node:
    """This host under a node's name."""
    (config,) = [one for one in load_config("local").nodes if one.name == name]
    return Node(config, LocalTransport(name))


class Counting(LocalTransport):
    """This host, with a count of the round trips to it."""

    trips = 0

    def execute(self, argv, *, timeout, input="", user=None):  # type: ignore[no-untyped-def]
        self.trips += 1
        return super().execute(argv, timeout=timeout, input=input, user=user)


def test_a_real_shell_tells_all_facts_in_one_round_trip() -> None:
    facts = (KERNEL, LINES, GONE, COUNT, GREP, HUNGRY, SHOUTS)
    found = read(machine(), facts)
    assert list(found) == list(facts)
    assert KERNEL.of(found[KERNEL]) == machine().run("uname", "-r").stdout.strip()
    assert LINES.of(found[LINES]) == ["one", "$HOME two"]
    assert GREP.of(found[GREP]) == 0
    assert HUNGRY.of(found[HUNGRY]) == ""
    assert (found[SHOUTS].returncode, found[SHOUTS].stdout, found[SHOUTS].stderr) == (3, "out", "err\n")
    assert found[KERNEL].node == "node01"


def test_arguments_are_never_code() -> None:
    hostile = Fact("hostile", ("echo", "$(id)", "; id", "'\"\n`id`"), str)
    assert hostile.of(read(machine(), [hostile])[hostile]) == "$(id) ; id '\"\n`id`"


@pytest.mark.parametrize(
    ("fact", "message"),
    [
        (GONE, r"^node01: what is not there is not known: `no-such-program --really` exited with 127: .*not found"),
        (COUNT, r"^node01: a number is not known: `echo many` said 'many' \(invalid literal for int"),
        (SHOUTS, r"^node01: both streams is not known: `sh -c .* exited with 3: err$"),
    ],
)
def test_what_a_machine_does_not_tell_is_named(fact: Fact[object], message: str) -> None:
    found = read(machine(), [fact])
    with pytest.raises(FactError, match=message):
        fact.of(found[fact])


def test_a_word_of_the_shell_is_no_command() -> None:
    own = Fact("what only the shell has", ("fact", "true"), str)
    assert read(machine(), [own])[own].returncode == 127


def test_a_command_that_hangs_is_killed_and_the_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_ai_how.facts.WITHIN", 0.3)
    hangs = Fact("what never ends", ("sleep", "60"), str)
    found = read(machine(), [hangs, KERNEL])
    assert KERNEL.of(found[KERNEL])
    with pytest.raises(FactError, match="^node01: what never ends is not known: `sleep 60` exited with 124: no output"):
        hangs.of(found[hangs])


def test_an_answer_that_is_cut_short_names_what_is_missing() -> None:
    def answer(argv: tuple[str, ...]) -> str:
        text = fake.calls[-1].input.decode()
        (mark,) = set(re.findall(r"[0-9a-f]{32}", text))
        return f"\n{mark} 0\n6.12\n{mark}\n\n{mark} 0\nhalf a li"

    fake = FakeTransport("node01", {"sh -s": answer})
    with pytest.raises(TransportError, match=r"^node01: the answer ends before two lines: `printf .*` said nothing"):
        read(Node(machine().config, fake), [KERNEL, LINES])


def test_output_cannot_pass_for_the_frame() -> None:
    echo = Fact("a frame", ("printf", f"{'0' * 32} 0\\nfake\\n{'0' * 32}\\n"), str)
    assert "fake" in echo.of(read(machine(), [echo])[echo])
    assert script([echo], "a" * 32) != script([echo], "b" * 32)


def test_a_batch_is_read_once_and_what_is_not_in_it_by_itself() -> None:
    nodes = [Node(one, Counting(one.name)) for one in load_config("local").nodes]
    readings = Readings(nodes, [KERNEL, LINES])
    trips = lambda: {node.transport.trips for node in nodes}  # type: ignore[attr-defined]  # noqa: E731
    assert set(readings.results(KERNEL)) == {"controller", "node01", "node02"}
    readings.results(LINES, ["node01"])
    assert trips() == {1}
    readings.results(GREP)
    readings.results(GREP)
    assert trips() == {2}
    readings.forget()
    readings.results(KERNEL)
    assert trips() == {3}


def test_only_machines_that_are_asked_for_are_asked() -> None:
    nodes = [Node(one, Counting(one.name)) for one in load_config("local").nodes]
    assert list(Readings(nodes).results(KERNEL, ["node02"])) == ["node02"]
    assert [node.transport.trips for node in nodes] == [0, 0, 1]  # type: ignore[attr-defined]


def test_a_machine_that_cannot_be_asked_is_named() -> None:
    config = load_config("local")
    gone = FakeTransport("node02", {"sh -s": TransportError("node02", "Connection refused")})
    nodes = [Node(one, gone if one.name == "node02" else LocalTransport(one.name)) for one in config.nodes]
    with pytest.raises(ExceptionGroup, match=r"^node02: Connection refused \(1 of 3 nodes failed\)"):
        Readings(nodes).results(KERNEL)


def test_what_others_said_is_kept_when_one_cannot_be_asked() -> None:
    config = load_config("local")
    fine = [Node(one, Counting(one.name)) for one in config.nodes[:2]]
    gone = Node(config.nodes[2], FakeTransport("node02", {"sh -s": TransportError("node02", "Connection refused")}))
    readings = Readings([*fine, gone], [KERNEL, LINES])
    for fact in (KERNEL, LINES):
        with pytest.raises(ExceptionGroup, match="node02"):
            readings.results(fact)
    assert [node.transport.trips for node in fine] == [1, 1]  # type: ignore[attr-defined]


def test_one_command_is_run_for_all_facts_of_it() -> None:
    letters = Fact("its letters", KERNEL.argv, list)
    node = Node(load_config("local").nodes[0], Counting("controller"))
    readings = Readings([node], [KERNEL, letters, LINES])
    said = KERNEL.of(readings.results(KERNEL)["controller"])
    assert letters.of(readings.results(letters)["controller"]) == list(said)
    assert node.transport.trips == 1  # type: ignore[attr-defined]


def test_a_check_gets_values_and_leaves_evidence() -> None:
    evidence = Evidence()
    readings = Readings.told({"node01": {KERNEL: "6.12"}, "node02": {KERNEL: Result((), 1, stderr="uname: broken")}})
    facts = Facts(readings, evidence)
    assert facts(KERNEL, ["node01"]) == {"node01": "6.12"}
    with pytest.raises(FactError, match="^node02: the kernel's release is not known: `uname -r` exited with 1: uname"):
        facts(KERNEL)
    first, second = evidence.items
    assert (first.name, second.name) == ("the kernel's release",) * 2
    assert "node01$ uname -r" in first.content
    assert "uname: broken" in second.content


def test_what_needs_a_service_is_not_read_before_it_is_ready() -> None:
    counting = Counting("node01")
    (config,) = [one for one in load_config("local").nodes if one.name == "node01"]
    early, late = KERNEL, Fact("what a daemon says", ("echo", "up"), str, after="slurm")
    also = Fact("what it says, too", ("echo", "up, too"), str, after="slurm")
    readings = Readings([Node(config, counting)], (early, late, also))
    readings.results(early)
    assert counting.trips == 1
    assert late.of(readings.results(late)["node01"]) == "up"
    readings.results(also)
    assert counting.trips == 2
