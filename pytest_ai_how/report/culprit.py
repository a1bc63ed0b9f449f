"""The culprit of a check over many machines, as the check uses it: named first, with the re-runs as evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pytest_ai_how.culprit import MOST, WITHIN, Finding, listed, narrow
from pytest_ai_how.report.evidence import Evidence

T = TypeVar("T")


class Culprit:
    """Finds the one of many machines, links or targets that makes a check of all of them fail."""

    def __init__(self, evidence: Evidence, *, most: int = MOST, within: float = WITHIN) -> None:
        self._evidence, self._most, self._within = evidence, most, within

    def of(
        self,
        names: Sequence[str],
        check: Callable[[tuple[str, ...]], T],
        *,
        least: int = 1,
        what: str = "node",
        on: type[AssertionError] = AssertionError,
        alone: Callable[[tuple[str, ...]], object] | None = None,
    ) -> T:
        """What ``check`` returns for all of ``names``; when an assertion of it fails, find out because of whom.

        ``check`` is then called with some of the names, at least ``least``, so it must leave nothing that disturbs the
        next call, and record no figure. ``alone`` does the like with one name, for those that can't be told apart
        otherwise. ``what`` the names are called in the message. Only ``on`` is looked into; other failures of the first
        call are passed on. Raises :class:`AssertionError` that begins with who it is, or says that it is not known;
        whatever is found, the failure stays one.
        """
        everyone = tuple(names)
        try:
            return check(everyone)
        except on as error:
            first = error
        single = self._probe(alone) if alone else None
        finding = narrow(everyone, self._probe(check), least=least, most=self._most, within=self._within, alone=single)
        told = rounds(finding)
        self._evidence.attach("re-runs that narrowed it down", told)
        raise AssertionError(f"{line(finding, str(first), what)}\n{told}\nat first: {first}") from first

    def _probe(self, check: Callable[[tuple[str, ...]], object]) -> Callable[[tuple[str, ...]], str]:
        def probe(group: tuple[str, ...]) -> str:
            with self._evidence.step(f"re-run with {', '.join(group)}"):
                try:
                    check(group)
                except AssertionError as error:
                    return str(error) or "an assertion without a message"
            return ""

        return probe


def rounds(finding: Finding) -> str:
    """The re-runs, a line each."""
    lines = [
        f"{', '.join(one.group)}: {f'fails: {_head(one.seen)}' if one.seen else 'passes'}" for one in finding.rounds
    ]
    return "\n".join(f"re-run {number}: {text}" for number, text in enumerate(lines, 1)) or "no re-run was made"


def line(finding: Finding, first: str, what: str = "node") -> str:
    """The finding in one line, who it is first. ``first`` is what the check said at first, of all of them."""
    count = len(finding.rounds)
    effort = f"{count} re-run{'' if count == 1 else 's'}"
    seen = _head(finding.seen or first)
    if finding.common:
        return f"{seen} (no {what} is to blame more than others: each of {listed(finding.names)} fails; {effort})"
    return f"{_blame(finding, what)} ({effort}): {seen}"


def _blame(finding: Finding, what: str) -> str:
    if not finding.culprits:
        return f"{listed(finding.among)}: which {what} it is, is not known: {finding.doubt}"
    if finding.doubt:
        return f"{_called(finding, ' + ')}: suspected: {finding.doubt}"
    if finding.unparted:
        together = f"{_called(finding, ' + ')}: fail together, and"
        unknown = f"no other {what}s are known to be fine"
        if finding.whole:
            between = "link" if len(finding.culprits[0]) == 2 else "links"
            return f"{together} each passes by itself: it is the {between} between them, or an end of it; {unknown}"
        return f"{together} can't be tried apart: {unknown}"
    # An arrow, as names may have hyphens.
    return f"{_called(finding, ' <-> ')}: {_deed(finding)}; {_rest(finding, what)}"


def _called(finding: Finding, between: str) -> str:
    return ", ".join(between.join(one) for one in finding.culprits)


def _deed(finding: Finding) -> str:
    sizes, several = {len(one) for one in finding.culprits}, len(finding.culprits) > 1
    if sizes == {1}:
        return "each fails wherever it takes part" if several else "fails wherever it takes part"
    if sizes == {2}:
        return "fail together, and neither without the other: it is the link between them"
    return "each of these fails" if several else "fail only all together"


def _rest(finding: Finding, what: str) -> str:
    count, blamed = len(finding.others), sum(map(len, finding.culprits))
    if not count:
        return f"there is no other {what}"
    others = f"{count} {what}s pass" if count > 1 else f"{what} passes"
    return f"the other {others} without {'it' if blamed == 1 else 'them'}"


def _head(text: str) -> str:
    return text.partition("\n")[0]
