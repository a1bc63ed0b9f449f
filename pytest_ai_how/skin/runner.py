"""The part of the process that collects and runs tests: gates, locks, verdicts."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from typing import NoReturn

import pytest

from pytest_ai_how.catalogue import Catalogue, load_catalogue
from pytest_ai_how.phases import PHASES, gate_depths, rank_of
from pytest_ai_how.report.model import CheckResult, Verdict
from pytest_ai_how.skin.crew import Crew
from pytest_ai_how.skin.gates import Gates
from pytest_ai_how.skin.groups import group_dependencies, tell_dependency
from pytest_ai_how.skin.keys import BREAKS, CLUSTER, CREW, EVIDENCE, MEASUREMENTS, OUTCOMES, PLAIN_ID, TRIAL
from pytest_ai_how.skin.marks import ids_of, requirements
from pytest_ai_how.skin.outcomes import Outcomes
from pytest_ai_how.skin.results import Collection, Selected, pack
from pytest_ai_how.skin.trial import Blocked, Trial, clean, judge
from pytest_ai_how.skin.turns import Use, group_those_alone, rank, use_of
from pytest_ai_how.skin.watch import Watch
from pytest_ai_how.skin.written import checks_under

# Verdicts that pytest has no outcome for: the line that stands for the traceback.
_IN_WORDS = (Verdict.BLOCKED, Verdict.NO_EVIDENCE)
NO_EVIDENCE = "no evidence: the check passed, but attached nothing and measured nothing"
NEVER_XFAIL = "a check must not be expected to fail (xfail): it would never be red"
NOT_CALLED = "it was set up but never called (--setup-only, --setup-plan)"


class Runner:
    """Hooks of the process that runs tests: the only one, or an xdist worker."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._collected: list[pytest.Item] = []
        self._self_skipped: list[str] = []
        self._gates_of: dict[str, tuple[str, ...]] = {}
        self._gate_ids: Iterable[str] = ()
        self._awaited: Counter[str] = Counter()
        self._gates: Gates | None = None
        self._turns: dict[pytest.Item, list[str]] = {}

    @property
    def _crew(self) -> Crew:
        return self._config.stash[CREW]

    @property
    def _watch(self) -> Watch:
        return Watch(self._crew)

    @property
    def _catalogue(self) -> Catalogue:
        return load_catalogue()

    # collection

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test with ``on(role)`` once for each node of the role, by the configuration alone."""
        mark = metafunc.definition.get_closest_marker("on")
        if mark is None or "node" not in metafunc.fixturenames:
            return
        role = str(mark.args[0])
        names = [node.name for node in self._config.stash[CLUSTER].nodes if role in node.roles]
        # Without any such node there must be a test all the same, to say so: zero nodes never pass.
        found = names or [f"no-{role}"]
        metafunc.parametrize("node", found, ids=found, indirect=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Group before xdist names the groups, order after others deselected."""
        for item in items:
            item.stash[PLAIN_ID] = item.nodeid
            item.extra_keyword_matches.update(ids_of(item))  # -k SLU-12
        group_those_alone(items)
        group_dependencies(items)
        yield
        self._order(items)

    def _order(self, items: list[pytest.Item]) -> None:
        ids = {item: found for item in items if (found := ids_of(item))}
        checks = {check for found in ids.values() for check in found}
        self._gates_of = {check: self._catalogue.gates_of(check) for check in checks}
        depths = gate_depths(checks, lambda check: self._gates_of[check])
        self._gate_ids = depths

        first = {item for item, found in ids.items() if depths.keys() & set(found) and not self._disruptive(item)}
        # Handed out before all else, one by one, so that others can wait for them; a group may hold anything.
        alone = {item for item in first if not item.get_closest_marker("xdist_group")}
        late = {check for item in ids.keys() - alone for check in ids[item]}
        self._awaited = Counter(check for item in alone for check in ids[item] if check in depths.keys() - late)

        uses = {item: self._use(item) for item in items}
        wanted_alone = {name for use in uses.values() for name in use.alone_with}

        # Among several workers a group is the long work of one, so it begins before what can be spread.
        groups_first = CREW in self._config.stash and self._crew.orders.ordered

        def place(item: pytest.Item) -> tuple[int, int, bool, bool]:
            spread = groups_first and not item.get_closest_marker("xdist_group")
            if _closing(item):
                return len(PHASES) + 1, 0, False, spread
            if item in first:
                depth = min(depths[check] for check in ids[item] if check in depths)
                return (-2 if item in alone else -1), depth, False, spread
            return rank_of(str(item.path)), *rank(uses[item], self._disruptive(item), wanted_alone), spread

        items.sort(key=place)
        # Who waits to be alone lets nobody else begin, so it does not wait beside those that take long turns.
        turns: dict[int, list[str]] = {}
        for item in items if groups_first else ():
            if uses[item].alone_with and not _closing(item):
                turns.setdefault(rank_of(str(item.path)), []).append(item.nodeid)
        self._turns = {item: turns.get(rank_of(str(item.path)), []) for item in items if uses[item].alone}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember what there is: not all that is taken out later is told to pytest_deselected."""
        self._collected.append(item)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that skips itself takes its checks with it."""
        if report.skipped and (checks := checks_under(self._config.rootpath / report.nodeid)):
            *_, why = report.longrepr if isinstance(report.longrepr, tuple) else (report.longrepr,)
            said = str(why).removeprefix("Skipped: ").removesuffix(".")
            self._self_skipped.append(f"{report.nodeid}: holds checks, but skipped itself: {said}: {', '.join(checks)}")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell the controller what is about to run."""
        if CREW not in self._config.stash:
            return
        parts = self._crew.orders.parts
        self._gates = Gates(parts, self._gate_ids, self._awaited if self._crew.orders.ordered else {})
        selected = {
            item.nodeid: Selected(item.stash[PLAIN_ID], ids_of(item), _location(item)) for item in session.items
        }
        Collection(selected, self._deselected(session.items), tuple(self._self_skipped)).write(parts)
        outcomes = self._config.stash[OUTCOMES] = Outcomes(parts)
        outcomes.begin()

    def _deselected(self, kept: Sequence[pytest.Item]) -> dict[str, tuple[str, ...]]:
        """The node ids of the tests that were taken out, by check."""
        selected, found = set(kept), dict[str, tuple[str, ...]]()
        for item in self._collected:
            for check in ids_of(item) if item not in selected else ():
                found[check] = (*found.get(check, ()), item.stash.get(PLAIN_ID, item.nodeid))
        return found

    # running

    def pytest_sessionfinish(self) -> None:
        """Tell those who wait for tests of this process that no more will run: an xdist worker lives on for a while."""
        if OUTCOMES in self._config.stash:
            self._config.stash[OUTCOMES].end()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Wait for gates that run now, then use the cluster together with others or alone."""
        ids = ids_of(item)
        item.stash[TRIAL] = Trial(strict=bool(ids))
        assert self._gates is not None  # made when collection finished
        self._gates.wait_for(self._barriers(ids))
        if turns := self._turns.get(item):
            self._config.stash[OUTCOMES].wait_for(turns)
        # Who judges the run waits for others, which may want the cluster alone.
        use = self._use(item)
        with nullcontext() if _closing(item) else self._crew.lease.using(use.alone, use.services):
            self._watch.begin(item)
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse what is not applicable here, and what stands behind a gate that is shut."""
        ids = ids_of(item)
        for capability in self._required(item, ids):
            if reason := self._crew.orders.why_absent(capability):
                _excuse(item, f"not applicable: capability '{capability}' is absent: {reason}")
        why_not_ours = "" if self._crew.orders.settings.allow_disruptive else self._crew.orders.why_absent("owned")
        if why_not_ours and self._disruptive(item):
            _excuse(
                item,
                f"not applicable: capability 'owned' is absent: {why_not_ours}; "
                "the check breaks something on purpose: --allow-disruptive runs it all the same",
            )
        assert self._gates is not None
        if shut := self._gates.why_shut(self._barriers(ids)):
            raise Blocked(f"blocked: {shut}")
        if "cluster" in getattr(item, "fixturenames", ()) and (left := self._crew.lease.left_broken()):
            raise Blocked(f"blocked: {left} put a fault into the cluster and is over without having undone it")
        if self._disruptive(item):
            # What a test does in its own process to undo its fault is not done when that is killed.
            self._crew.lease.breaks(item.stash[PLAIN_ID])
            item.stash[BREAKS] = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """A check that returns what it should assert is broken, whatever the session makes of warnings."""
        trial = item.stash[TRIAL]
        try:
            with warnings.catch_warnings():
                if trial.strict:
                    warnings.simplefilter("error", pytest.PytestReturnNotNoneWarning)
                yield
        finally:
            trial.called = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        """Trust the cluster again when a fault was undone; a tear-down that fails or is interrupted has not done it."""
        breaks = item.stash.get(BREAKS, False)
        try:
            yield
            if breaks:
                self._crew.lease.mended(item.stash[PLAIN_ID])
        finally:
            if breaks:
                del item.stash[BREAKS]
                self._crew.lease.left(item.stash[PLAIN_ID])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Give the report its verdict, and with the last one the whole result."""
        if call.excinfo is not None:
            self._watch.name_copies(call.excinfo.value)
        report = yield
        trial = item.stash[TRIAL]
        if verdict := self._observe(trial, item, call, report):
            report.ai_how_verdict = verdict.value  # type: ignore[attr-defined]  # pytest carries what is added
        if report.when == "teardown":
            if trial.verdict is Verdict.PASSED and not trial.called:
                trial.note(Verdict.BROKEN, NOT_CALLED)
            report.ai_how_result = self._result(trial, item)  # type: ignore[attr-defined]  # as above
        clean(report, self._crew.redactor)
        tell_dependency(item, item.stash.get(PLAIN_ID, item.nodeid), report)
        return report

    def _observe(
        self, trial: Trial, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> Verdict | None:
        """Take one phase into the trial, and make pytest's outcome say no more than is true."""
        if hasattr(report, "wasxfail"):
            if not trial.strict:  # pytest has words of its own for it
                if report.skipped:
                    trial.note(Verdict.NOT_APPLICABLE, f"expected to fail: {report.wasxfail}")
                return None
            del report.wasxfail
            verdict, reason = Verdict.BROKEN, NEVER_XFAIL
        elif crash := self._watch.crash(item):
            also = f"\n{judge(call.excinfo.value, trial, call.when)[1]}" if call.excinfo else ""
            verdict, reason = Verdict.FAILED, f"{crash}{also}"
        elif call.excinfo is not None:
            verdict, reason = judge(call.excinfo.value, trial, call.when)
        elif found := _doubt(trial, item, call.when):
            verdict, reason = found
        else:
            return None
        was_red = report.outcome == "failed"
        if verdict in (Verdict.FAILED, Verdict.BROKEN):
            self._watch.attach(item)
        if verdict is not Verdict.NOT_APPLICABLE:
            report.outcome = "failed"
        if verdict in _IN_WORDS or not (was_red or verdict is Verdict.NOT_APPLICABLE):
            report.longrepr = reason
        trial.note(verdict, reason, report.longreprtext if report.failed else "")
        return verdict

    def _result(self, trial: Trial, item: pytest.Item) -> str:
        ids = ids_of(item)
        evidence, measurements = item.stash.get(EVIDENCE, None), item.stash.get(MEASUREMENTS, None)
        result = CheckResult(
            nodeid=item.stash.get(PLAIN_ID, item.nodeid),
            verdict=trial.verdict,
            ids=ids,
            title=_title(item),
            reason=trial.reason,
            node=_node(item),
            location=_location(item),
            trace="\n".join(trial.traces),
            started=trial.started,
            seconds=trial.seconds,
            worker=self._crew.worker,
            attachments=evidence.items if evidence else (),
            steps=evidence.steps if evidence else (),
            measurements=measurements.items if measurements else (),
        )
        assert self._gates is not None
        self._gates.note(ids, trial.verdict, trial.reason)
        self._config.stash[OUTCOMES].note(item.nodeid, result)
        return pack(result, self._crew.orders.parts)

    # what an item asks for

    def _barriers(self, ids: Iterable[str]) -> set[str]:
        return {gate for check in ids for gate in self._gates_of.get(check, ())}

    def _required(self, item: pytest.Item, ids: Iterable[str]) -> Iterable[str]:
        by_row = [capability for check in ids for capability in self._catalogue[check].requires]
        return dict.fromkeys([*requirements(item), *by_row])

    def _disruptive(self, item: pytest.Item) -> bool:
        if item.get_closest_marker("disruptive"):
            return True
        return any(self._catalogue[check].disruptive for check in ids_of(item))

    def _use(self, item: pytest.Item) -> Use:
        return use_of(item, self._required(item, ids_of(item)), self._disruptive(item))


def _doubt(trial: Trial, item: pytest.Item, when: str) -> tuple[Verdict, str] | None:
    """What a check is that ended without an exception, but proved nothing or measured the contrary."""
    # Parts of a test (subtests) are reported while it still runs, and may come before its evidence.
    if when != "call" or not (trial.strict and trial.called):
        return None
    measurements = item.stash.get(MEASUREMENTS, None)
    for figure in measurements.items if measurements else ():
        if figure.verdict in ("exceeded", "invalid"):
            return Verdict.FAILED, f"{figure.node}: {figure.reason}" if figure.node else figure.reason
    return None if _samples(item) else (Verdict.NO_EVIDENCE, NO_EVIDENCE)


def _excuse(item: pytest.Item, reason: str) -> NoReturn:
    item.stash[TRIAL].excuse = reason
    pytest.skip(reason)


def _closing(item: pytest.Item) -> bool:
    return item.get_closest_marker("closing") is not None


def _samples(item: pytest.Item) -> int:
    evidence, measurements = item.stash.get(EVIDENCE, None), item.stash.get(MEASUREMENTS, None)
    return (evidence.samples if evidence else 0) + (len(measurements.items) if measurements else 0)


def _title(item: pytest.Item) -> str:
    text = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip()
    return text.splitlines()[0].strip() if text else ""


def _node(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("node", "")) if callspec else ""


def _location(item: pytest.Item) -> str:
    file, line, _ = item.location
    return f"{file}:{line + 1}" if line is not None else file
