"""Which of many make a thing fail that takes several of them: few re-runs of groups, then a round that confirms.

Group testing by generalised binary splitting (Hwang 1972): one of N is found in log2 N re-runs, each further one in
about as many. Where no single one is to blame, the same search yields the smallest group that fails together: of two,
it is the link. All of it rests on that a group fails when a part of it does. Where that is not so, because a failure
comes and goes, the round that confirms tells, and the finding says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pytest_ai_how.deadline import Deadline

#: Runs the thing with these only. Returns what went wrong; nothing when it went well.
Probe = Callable[[tuple[str, ...]], str]

#: Re-runs of one search at most: twice what two culprits among 64 take.
MOST = 32
#: Seconds of one search; no re-run is begun that may end later.
WITHIN = 180.0
#: How often all are run again before a failure counts as one that comes and goes.
TRIES = 2
#: So many culprits, and the others still fail: it is something that they have in common.
SEVERAL = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One re-run: with whom, and what went wrong (nothing when it went well)."""

    group: tuple[str, ...]
    seen: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a search among ``names`` came to, with its re-runs.

    A culprit of one name fails with others that are fine; one of two names is what lies between them, and more names
    fail only together. ``unparted``: a culprit's names could not be tried apart; ``whole``: each passes by itself then.
    ``doubt``: why all this is not certain; empty when it is.
    """

    names: tuple[str, ...]
    culprits: tuple[tuple[str, ...], ...]
    rounds: tuple[Round, ...]
    unparted: bool = False
    whole: bool = False
    doubt: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        """All who are no culprit, nor part of one."""
        return _without(self.names, *self.culprits)

    @property
    def common(self) -> bool:
        """Whether each of several fails, so that it is nothing of any one of them."""
        return not self.doubt and len(self.culprits) == len(self.names) > 1

    @property
    def among(self) -> tuple[str, ...]:
        """The smallest group that failed; all, when none did again."""
        return min((one.group for one in self.rounds if one.seen), key=len, default=self.names)

    @property
    def seen(self) -> str:
        """What went wrong in the smallest group with the first culprit in it; nothing, when none failed again."""
        blamed = set(self.culprits[0]) if self.culprits else set[str]()
        failed = [one for one in self.rounds if one.seen and blamed <= set(one.group)]
        return min(failed, key=lambda one: len(one.group)).seen if failed else ""


class _Ended(Exception):
    """The search can't go on; why."""


def narrow(
    names: Sequence[str], probe: Probe, *, least: int = 1, most: int = MOST, within: float = WITHIN,
    alone: Probe | None = None,
) -> Finding:  # fmt: skip
    """Find who of ``names`` made a run of all of them fail.

    ``least`` is the size of the smallest group that can be run. ``alone`` runs the like with one name only, for those
    that can't be told apart otherwise: who fails by itself needs no other. What a probe raises ends the search, as does
    its bound of ``most`` re-runs and ``within`` seconds; the finding then says how far it got, and why not farther.
    """
    search = _Search(tuple(names), probe, least, most, Deadline(within), alone)
    doubt = ""
    try:
        search.run()
    except _Ended as end:
        doubt = str(end)
    return Finding(search.names, tuple(search.culprits), tuple(search.rounds), search.unparted, search.whole, doubt)


@dataclass
class _Search:
    """A search under way. ``fine`` and ``bad`` are the groups that passed and failed."""

    names: tuple[str, ...]
    probe: Probe
    least: int
    most: int
    deadline: Deadline
    alone: Probe | None = None
    rounds: list[Round] = field(default_factory=list)
    culprits: list[tuple[str, ...]] = field(default_factory=list)
    unparted: bool = False
    whole: bool = False
    fine: list[frozenset[str]] = field(default_factory=list)
    bad: list[frozenset[str]] = field(default_factory=list)
    longest: float = 0.0

    def run(self) -> None:
        """Find the culprits. Raises :class:`_Ended` when that is not possible."""
        if not any(self.again(self.names) for _ in range(TRIES)):
            raise _Ended(f"it failed once, and not again in {TRIES} re-runs of all: it comes and goes")
        self.fine.clear()  # that all of them passed once may be luck, and would clear everyone
        rest = self.take_out()
        self.part(rest)
        self.confirm()
        if self.unparted and self.alone is not None:
            self.single_out(self.alone)

    def take_out(self) -> tuple[str, ...]:
        """Take the smallest groups that fail out, one after the other, until the rest passes, and return the rest."""
        rest = self.names
        while self.fails(rest):
            if len(self.culprits) == SEVERAL:
                raise _Ended(f"the other {len(rest)} fail without them, too; look for what all of them have in common")
            self.culprits.append(self.smallest(rest))
            rest = _without(rest, self.culprits[-1])
        return rest

    def smallest(self, group: Collection[str]) -> tuple[str, ...]:
        """A group in ``group``, which fails, that passes without any one of its names."""
        needed: list[str] = []
        pool = list(group)
        while pool and not self.fails(needed):
            # So few of the pool are too few to be run, or pass; so many fail.
            low, high = max(0, self.least - len(needed) - 1), len(pool)
            # Whoever fails with some fails with any: cheaper to see at once than by splitting.
            if needed and high > low + 1 and self.fails([*needed, *pool[: low + 1]]):
                high = low + 1
            while high > low + 1:
                middle = (low + high) // 2
                if self.fails([*needed, *pool[:middle]]):
                    high = middle
                else:
                    low = middle
            needed.append(pool[high - 1])
            pool = pool[: high - 1]
        return self.ordered(needed)

    def part(self, rest: tuple[str, ...]) -> None:
        """Of groups that failed together, blame those who also fail among ``rest``, and not the others."""
        found, self.culprits = self.culprits, []
        for group in found:
            apart = len(group) > 1 and rest and len(rest) + 1 >= self.least
            alone = [name for name in group if apart and self.fails([*rest, name])]
            self.culprits += [(name,) for name in alone] or [group]
            self.unparted |= len(group) > 1 and not apart and self.least > 1
        if rest and not any(one.issuperset(rest) for one in self.fine):
            # Too few to be run by themselves, and with no one else did they pass: the failure may as well be theirs.
            self.culprits, self.unparted = [self.names], True

    def single_out(self, alone: Probe) -> None:
        """Of those that can't be tried apart, blame who fails by itself, twice, if the others pass without."""
        blamed = self.ordered(name for culprit in self.culprits for name in culprit)
        failed = [name for name in blamed if self.again((name,), alone)]
        for name in failed:
            if not self.again((name,), alone):
                raise _Ended(f"{name} failed by itself, and passed when run again: it comes and goes")
        if failed and not self.fails(_without(blamed, failed)):
            self.culprits, self.unparted = [(name,) for name in failed], False
        self.whole = not failed

    def confirm(self) -> None:
        """Run each culprit once more, and all others without them; what was found so far is not relied on."""
        others = _without(self.names, *self.culprits)
        for culprit in self.culprits:
            group = (*culprit, *others[: max(0, self.least - len(culprit))])
            if len(group) >= self.least and not self.again(group):
                raise _Ended(f"{listed(group)} failed, and passed when run again: it comes and goes")
        tried = len(others) < max(1, self.least) or frozenset(others) in self.fine
        if not tried and self.again(others):
            raise _Ended(f"the other {len(others)} passed, and failed when run again: it comes and goes")

    def fails(self, group: Collection[str]) -> bool:
        """Whether ``group`` fails: known of a smaller or larger one, or tried. A group that can't be run does not."""
        wanted = frozenset(group)
        if len(wanted) < max(1, self.least) or any(wanted <= one for one in self.fine):
            return False
        return any(one <= wanted for one in self.bad) or self.again(group)

    def again(self, group: Collection[str], probe: Probe | None = None) -> bool:
        """Run ``group``, by another probe than that of groups if one is given, and return whether it fails."""
        if len(self.rounds) == self.most:
            raise _Ended(f"given up after {self.most} re-runs")
        if self.deadline.left < self.longest or self.deadline.passed:
            limit = f"{self.deadline.seconds:g} s for all of them"
            raise _Ended(f"given up, as one more re-run may take {self.longest:.0f} s, and there are {limit}")
        asked = self.ordered(group)
        since = time.monotonic()
        try:
            seen = (probe or self.probe)(asked)
        except Exception as error:
            raise _Ended(f"the re-run with {listed(asked)} broke: {type(error).__name__}: {error}") from error
        self.longest = max(self.longest, time.monotonic() - since)
        self.rounds.append(Round(asked, seen))
        (self.bad if seen else self.fine).append(frozenset(asked))
        return bool(seen)

    def ordered(self, group: Iterable[str]) -> tuple[str, ...]:
        wanted = set(group)
        return tuple(name for name in self.names if name in wanted)


def _without(names: Iterable[str], *groups: Iterable[str]) -> tuple[str, ...]:
    gone = {name for group in groups for name in group}
    return tuple(name for name in names if name not in gone)


def listed(names: Sequence[str], most: int = 4) -> str:
    """The names; of many, the first and the last, and how many there are."""
    return ", ".join(names) if len(names) <= most else f"{names[0]} … {names[-1]} ({len(names)})"
