"""Who is to blame: found with few re-runs, confirmed, and never claimed without."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from itertools import combinations

import pytest

from pytest_ai_how import culprit
from pytest_ai_how.culprit import Finding, narrow
from pytest_ai_how.report.culprit import Culprit, line
from pytest_ai_how.report.evidence import Evidence

NAMES = tuple(f"node{number:02}" for number in range(1, 65))
FIRST = "all: something broke\nand more of it"


class Broken:
    """A thing that fails when all names of one of ``causes`` take part in it."""

    def __init__(self, *causes: Collection[str], least: int = 1) -> None:
        self.causes, self.least = [set(one) for one in causes], least
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, group: tuple[str, ...]) -> str:
        assert len(group) >= self.least, f"asked to run {group}"
        self.asked.append(group)
        cause = next((one for one in self.causes if one <= set(group)), None)
        return f"{len(group)} of them: broken by {' and '.join(sorted(cause))}" if cause else ""


def found(probe: Broken, names: Iterable[str] = NAMES, **bounds: float) -> Finding:
    return narrow(tuple(names), probe, least=probe.least, **bounds)  # type: ignore[arg-type]  # most is an int


@pytest.mark.parametrize("bad", NAMES)
def test_one_of_64_takes_ten_re_runs_where_one_by_one_takes_64(bad: str) -> None:
    finding = found(Broken([bad]))
    assert (finding.culprits, finding.doubt) == (((bad,),), "")
    # All again, six halvings, the one alone; then the round that confirms: the others, and the one once more.
    assert len(finding.rounds) <= 8 + 2
    told = line(finding, FIRST)
    assert told == (
        f"{bad}: fails wherever it takes part; the other 63 nodes pass without it ({len(finding.rounds)} re-runs): "
        f"1 of them: broken by {bad}"
    )


def test_two_of_64_take_few_more() -> None:
    worst = 0
    for pair in random.Random(1).sample(list(combinations(NAMES, 2)), 200):
        finding = found(Broken(pair[:1], pair[1:]))
        assert (sorted(finding.culprits), finding.doubt) == ([pair[:1], pair[1:]], ""), pair
        worst = max(worst, len(finding.rounds))
    assert worst <= 20
    assert line(finding, FIRST).startswith(
        ", ".join(one for (one,) in finding.culprits)
        + ": each fails wherever it takes part; the other 62 nodes pass without them ("
    )


@pytest.mark.parametrize("least", [1, 2])
def test_a_link_among_fine_nodes_is_named_by_its_ends(least: int) -> None:
    worst = 0
    for pair in random.Random(2).sample(list(combinations(NAMES, 2)), 200):
        finding = found(Broken(pair, least=least))
        assert (finding.culprits, finding.doubt, finding.unparted) == ((pair,), "", False), pair
        worst = max(worst, len(finding.rounds))
    # Its ends one after the other, six halvings each, and each end among the others.
    assert worst <= 20
    assert line(finding, FIRST).startswith(
        f"{pair[0]} <-> {pair[1]}: fail together, and neither without the other: it is the link between them; "
        "the other 62 nodes pass without them ("
    )


@pytest.mark.parametrize("bad", NAMES)
def test_what_takes_two_is_never_run_with_one(bad: str) -> None:
    finding = found(Broken([bad], least=2))
    assert (finding.culprits, finding.doubt) == (((bad,),), "")
    assert len(finding.rounds) <= 13


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("size", range(3, 9))
def test_of_few_each_node_and_each_link_is_told(size: int, least: int) -> None:
    names = NAMES[:size]
    for cause in [*combinations(names, 1), *combinations(names, 2)]:
        finding = found(Broken(cause, least=least), names)
        assert (finding.culprits, finding.doubt, finding.unparted) == ((cause,), "", False), cause


def test_what_takes_three_together_is_no_node_and_no_link() -> None:
    three = (NAMES[5], NAMES[20], NAMES[41])
    finding = found(Broken(three))
    assert finding.culprits == (three,)
    assert "node06 <-> node21 <-> node42: fail only all together; the other 61 nodes pass without them" in line(
        finding, FIRST
    )


def test_a_node_and_a_link_are_both_told() -> None:
    finding = found(Broken(["node07"], ["node20", "node33"], least=2))
    assert sorted(finding.culprits) == [("node07",), ("node20", "node33")]
    assert "each of these fails; the other 61 nodes pass without them" in line(finding, FIRST)


@pytest.mark.parametrize("least", [1, 2])
def test_where_all_are_bad_it_ends_soon_and_says_that_it_is_something_else(least: int) -> None:
    finding = found(Broken(*([one] for one in NAMES), least=least))
    assert finding.doubt.endswith("fail without them, too; look for what all of them have in common")
    assert len(finding.rounds) <= 25
    assert re_runs(finding) in line(finding, FIRST)


def re_runs(finding: Finding) -> str:
    return f"({len(finding.rounds)} re-runs)"


def test_three_of_three() -> None:
    finding = found(Broken(*([one] for one in NAMES[:3])), NAMES[:3])
    assert line(finding, FIRST) == (
        "1 of them: broken by node01 (no node is to blame more than others: each of node01, node02, node03 fails; "
        f"{len(finding.rounds)} re-runs)"
    )


@pytest.mark.parametrize("causes", [1, 2, 3])
def test_pairs_that_can_not_be_parted_are_not_parted(causes: int) -> None:
    """Of three, two or three bad ones look the same when it takes two; of two, one looks like their link."""
    names = NAMES[: max(2, causes)]
    finding = found(Broken(*([one] for one in names[:causes]), least=2), names)
    assert finding.unparted
    assert finding.culprits == (names,)
    assert line(finding, FIRST).startswith(
        f"{' + '.join(names)}: fail together, and can't be tried apart: no other nodes are known to be fine ("
    )


def test_two_bad_of_three_are_not_called_the_only_ones() -> None:
    finding = found(Broken(["node01"], ["node02"], least=2), NAMES[:3])
    assert (finding.culprits, finding.unparted) == ((NAMES[:3],), True)


class Alone:
    """The same with one name: who is in ``bad`` fails by itself, as often as ``times`` says."""

    def __init__(self, *bad: str, times: int = 99) -> None:
        self.bad, self.times = bad, times
        self.asked: list[str] = []

    def __call__(self, group: tuple[str, ...]) -> str:
        (name,) = group
        self.asked.append(name)
        return f"{name} alone: broken" if name in self.bad and self.asked.count(name) <= self.times else ""


def apart(probe: Broken, alone: Alone, names: Iterable[str]) -> str:
    finding = narrow(tuple(names), probe, least=2, alone=alone)
    return line(finding, FIRST)


def test_of_two_who_fails_by_itself_is_named() -> None:
    alone = Alone("node02")
    assert apart(Broken(["node02"], least=2), alone, NAMES[:2]) == (
        "node02: fails wherever it takes part; the other node passes without it (5 re-runs): node02 alone: broken"
    )
    assert alone.asked == ["node01", "node02", "node02"], "who is blamed fails twice"


def test_of_two_neither_is_named_where_each_passes_by_itself() -> None:
    for cause in (["node01"], ["node01", "node02"]):
        assert apart(Broken(cause, least=2), Alone(), NAMES[:2]) == (
            "node01 + node02: fail together, and each passes by itself: it is the link between them, or an end of it; "
            f"no other nodes are known to be fine (4 re-runs): 2 of them: broken by {' and '.join(cause)}"
        )


@pytest.mark.parametrize("size", [2, 3, 4])
def test_where_each_fails_by_itself_too_none_is_to_blame_more(size: int) -> None:
    names = NAMES[:size]
    told = apart(Broken(*([one] for one in names), least=2), Alone(*names), names)
    assert told.startswith(
        f"node01 alone: broken (no node is to blame more than others: each of {', '.join(names)} fails; "
    )


def test_who_fails_by_itself_is_not_called_the_only_one_while_others_fail_without_it() -> None:
    told = apart(Broken(*([one] for one in NAMES[:3]), least=2), Alone("node01"), NAMES[:3])
    assert told.startswith(
        "node01 + node02 + node03: fail together, and can't be tried apart: no other nodes are known"
    )


def test_who_fails_by_itself_once_is_suspected_at_most() -> None:
    told = apart(Broken(["node02"], least=2), Alone("node02", times=1), NAMES[:2])
    assert told.startswith(
        "node01 + node02: suspected: node02 failed by itself, and passed when run again: it comes and goes (5 re-runs)"
    )


def test_those_whom_groups_tell_apart_are_not_run_alone() -> None:
    alone = Alone()
    assert apart(Broken(["node02"], least=2), alone, NAMES[:4]).startswith("node02: fails wherever it takes part; the ")
    assert apart(Broken(NAMES[1:3], least=2), alone, NAMES[:4]).startswith("node02 <-> node03: fail together, and neit")
    assert alone.asked == []


def test_what_does_not_happen_again_is_said_to_come_and_go() -> None:
    finding = found(Broken())
    assert (finding.culprits, len(finding.rounds)) == ((), culprit.TRIES)
    assert line(finding, FIRST) == (
        "node01 … node64 (64): which node it is, is not known: it failed once, and not again in 2 re-runs of all: it "
        "comes and goes (2 re-runs): all: something broke"
    )


def test_who_fails_now_and_then_is_suspected_at_most() -> None:
    for seed in range(200):
        dice = random.Random(seed)

        def probe(group: tuple[str, ...], dice: random.Random = dice) -> str:
            return "broken" if "node17" in group and dice.random() < 0.5 else ""

        finding = narrow(NAMES, probe)
        certain = not finding.doubt
        # Whoever is named without a doubt failed at least twice; that luck held each time is all that remains.
        assert not certain or ["node17" in one for one in finding.culprits] == [True], finding
        assert len(finding.rounds) <= culprit.MOST
        if finding.culprits and not certain:
            assert ": suspected: " in line(finding, FIRST)


def test_a_finding_without_doubt_is_true_of_whatever_fails_the_same_each_time() -> None:
    """Of all sets of causes, those that are named are causes, and without them nothing fails."""
    dice = random.Random(3)
    for _ in range(500):
        names = NAMES[: dice.randint(2, 12)]
        causes = [dice.sample(names, dice.choice((1, 1, 2))) for _ in range(dice.randint(1, 3))]
        least = dice.choice((1, 2))
        probe = Broken(*causes, least=least)
        finding = found(probe, names)
        if finding.doubt or finding.unparted:
            continue
        left = [one for one in probe.causes if one <= set(finding.others)]
        assert not left or len(finding.others) < least, (names, causes, least, finding.culprits)
        for blamed in finding.culprits:
            together = {name for one in probe.causes for name in one}
            assert set(blamed) <= together, (names, causes, least, finding.culprits)


def test_its_bounds_end_it_with_what_it_knows_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found(Broken(["node03"]), most=4)
    assert line(finding, FIRST) == (
        "node01 … node08 (8): which node it is, is not known: given up after 4 re-runs (4 re-runs): "
        "8 of them: broken by node03"
    )
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(culprit.time, "monotonic", lambda: float(next(clock)))
    finding = found(Broken(["node03"]), within=100)
    assert "given up, as one more re-run may take" in finding.doubt
    assert 0 < len(finding.rounds) < 5


def test_a_re_run_that_breaks_ends_it_and_is_told() -> None:
    def probe(group: tuple[str, ...]) -> str:
        if len(group) < 64:
            raise OSError("no route")
        return "broken"

    assert line(narrow(NAMES, probe), FIRST) == (
        "node01 … node64 (64): which node it is, is not known: the re-run with node01 … node32 (32) broke: OSError: no "
        "route (1 re-run): broken"
    )


def test_one_alone_is_its_own_culprit() -> None:
    told = line(found(Broken(["node01"]), NAMES[:1]), FIRST)
    assert told.startswith("node01: fails wherever it takes part; there is no other node (")


# as checks use it


def test_a_check_that_passes_is_run_once_and_its_value_is_returned() -> None:
    calls: list[tuple[str, ...]] = []
    assert Culprit(Evidence()).of(["a", "b"], lambda names: calls.append(names) or len(names)) == 2  # type: ignore[func-returns-value]
    assert calls == [("a", "b")]


def test_a_failure_begins_with_the_culprit_and_has_its_re_runs_as_evidence() -> None:
    evidence = Evidence()
    probe = Broken(["node02"])

    def check(names: tuple[str, ...]) -> None:
        evidence.attach("job", str(names))
        if seen := probe(names):
            raise AssertionError(seen)

    with pytest.raises(AssertionError) as caught:
        Culprit(evidence).of(NAMES[:3], check, what="target")
    first, *told = str(caught.value).splitlines()
    assert (
        first == "node02: fails wherever it takes part; the other 2 targets pass without it (6 re-runs): "
        "1 of them: broken by node02"
    )
    assert told[0] == "re-run 1: node01, node02, node03: fails: 3 of them: broken by node02"
    assert told[-1].startswith("at first: 3 of them: broken by node02")
    assert len(evidence.steps) == 6
    assert "re-run 6: node02: fails" in evidence.items[-1].content


def test_a_failure_stays_one_whatever_the_narrowing_finds() -> None:
    failed: list[tuple[str, ...]] = []

    def check(names: tuple[str, ...]) -> None:
        failed.append(names)
        assert len(failed) > 1, f"{len(names)} nodes: once"

    with pytest.raises(
        AssertionError, match=r"^node01, node02: which node .* comes and goes \(2 re-runs\): 2 nodes: once"
    ):
        Culprit(Evidence()).of(["node01", "node02"], check)


def test_a_check_that_takes_two_is_done_by_each_alone_where_they_are_no_more() -> None:
    def check(names: tuple[str, ...]) -> None:
        assert "node02" not in names, f"{', '.join(names)}: wrong sum"

    with pytest.raises(AssertionError) as caught:
        Culprit(Evidence()).of(["node01", "node02"], check, least=2, alone=check)
    first, *told = str(caught.value).splitlines()
    assert first == (
        "node02: fails wherever it takes part; the other node passes without it (5 re-runs): node02: wrong sum"
    )
    assert told[2:5] == [
        "re-run 3: node01: passes",
        "re-run 4: node02: fails: node02: wrong sum",
        "re-run 5: node02: fails: node02: wrong sum",
    ]


def test_what_is_no_assertion_is_not_narrowed() -> None:
    def check(names: tuple[str, ...]) -> None:
        raise OSError(f"{len(names)}")

    with pytest.raises(OSError, match="^2$"):
        Culprit(Evidence()).of(["node01", "node02"], check)
