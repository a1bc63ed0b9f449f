"""TASK-044: the whole stack as its user runs it, and the run itself.

The product is started as a process of its own, on small clusters of its own: what holds of it holds of this run.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.report.assemble import completeness
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import LimitExceeded, Measurements
from pytest_ai_how.report.model import CheckResult, RowState, RunReport, RunVerdict, Severity, Verdict
from pytest_ai_how.report.words import verdict_line

from ._inventory import difference
from ._nested import Nested, NestedRun, Profile, nothing_left, profiles, run_nested

if TYPE_CHECKING:
    from pytest_ai_how.bringup import Bringup
    from pytest_ai_how.config.models import ClusterConfig


@pytest.fixture(scope="session")
def nested_profiles(cluster_config: ClusterConfig, bringup: Bringup, run_id: str) -> Iterator[list[Profile]]:
    """What the runs run on: one small cluster in several shapes. Nothing of it outlives this."""
    found = profiles(cluster_config, bringup.driver, run_id)
    with nothing_left(found[0].config.name, run_id):
        yield found


@pytest.fixture(scope="session")
def first_run(nested_profiles: list[Profile], tmp_path_factory: pytest.TempPathFactory) -> NestedRun:
    """A run on the whole of it."""
    return run_nested(nested_profiles[0], tmp_path_factory.mktemp("nested") / "run")


@pytest.fixture(scope="session")
def nested(nested_profiles: list[Profile], first_run: NestedRun, tmp_path_factory: pytest.TempPathFactory) -> Nested:
    """That run, the same again, and one for each shape that lacks something."""
    more = [run_nested(one, tmp_path_factory.mktemp("nested") / "run") for one in nested_profiles]
    return Nested(first_run, more[0], tuple(more[1:]))


# All share the runs, so they share a worker. The runs load this host's disk: nobody measures storage meanwhile.


@pytest.mark.check("E2E-16")
@pytest.mark.requires("owned")
@pytest.mark.uses("storage")
@pytest.mark.xdist_group("TASK-044")
def test_from_nothing_to_all_green(first_run: NestedRun, evidence: Evidence, measure: Measurements) -> None:
    """From no machine to every selected check passed takes less than 45 minutes."""
    evidence.result(first_run.result, "pytest")
    report = first_run.report
    answered = [result for result in report.results if result.verdict.executed]
    assert answered, f"{report.run.cluster}: no check was executed; {verdict_line(report)}"
    assert report.verdict is RunVerdict.FIT, f"{report.run.cluster}: {verdict_line(report)}; expected all green"
    ends = sorted(result.started + result.seconds for result in answered)
    measure("cluster.bring_up", ends[0] - first_run.started, "s")
    measure("cluster.all_green", ends[-1] - first_run.started, "s")


@pytest.mark.check("E2E-18")
@pytest.mark.requires("slurm")
@pytest.mark.uses("storage")
@pytest.mark.xdist_group("TASK-044")
def test_two_runs_say_the_same(nested: Nested, evidence: Evidence) -> None:
    """Two runs of the same checks on the same profile come to the same verdict, check by check."""
    first, second = (_verdicts(made.report) for made in (nested.first, nested.second))
    for name, verdicts in (("first", first), ("second", second)):
        evidence.attach(f"{name} run", "\n".join(f"{test}: {verdict.words}" for test, verdict in verdicts.items()))
    assert any(verdict.executed for verdict in first.values()), "first run: no check was executed; nothing to compare"
    other = [
        f"{test}: {_words(first.get(test))}, then {_words(second.get(test))}"
        for test in sorted(first.keys() | second.keys())
        if first.get(test) is not second.get(test)
    ]
    assert not other, f"{other[0]} (and {len(other) - 1} more); expected the same verdicts of two runs in a row"
    one, two = nested.first.report.verdict, nested.second.report.verdict
    assert one is two, f"run {nested.second.report.run.id}: verdict {two}, expected {one} as of the run before"


@pytest.mark.check("E2E-19")
@pytest.mark.requires("owned")
@pytest.mark.uses("storage")
@pytest.mark.xdist_group("TASK-044")
def test_the_host_is_as_before(nested: Nested, evidence: Evidence, measure: Measurements) -> None:
    """After a cluster was made and taken down, the host has the mounts, interfaces, groups and files that it had."""
    for made in (nested.first, nested.second, *nested.degraded):
        changed = difference(made.before, made.after)
        evidence.attach(f"{made.profile.name}: {len(made.before)} things before", "\n".join(sorted(made.before)))
        evidence.attach(f"{made.profile.name}: changed", "\n".join(changed) or "nothing")
        assert made.before, "localhost: the inventory before the run is empty; nothing was compared"
        assert not changed, (
            f"localhost: after a run with {made.profile.name}: {'; '.join(changed)}; expected the host as before; "
            "do: pytest-ai-how reap"
        )
        last = max((result.started + result.seconds for result in made.report.results), default=0.0)
        measure("cluster.take_down", made.report.run.ended - last, "s", node=made.profile.name.replace(" ", "-"))


@pytest.mark.check("E2E-20")
@pytest.mark.requires("slurm")
@pytest.mark.uses("storage")
@pytest.mark.xdist_group("TASK-044")
def test_reports_carry_what_they_must(first_run: NestedRun, evidence: Evidence) -> None:
    """JUnit and Allure name each executed check's identifier, task and threshold, and hold its evidence."""
    written = sorted(str(path.relative_to(first_run.folder)) for path in first_run.folder.rglob("*") if path.is_file())
    evidence.attach("written", "\n".join(written))
    executed = [result for result in first_run.report.results if result.verdict.executed and result.ids]
    assert executed, f"{first_run.folder}: no check was executed; its reports show nothing"
    assert any(result.measurements for result in executed), (
        f"{first_run.folder}: no check measured; no threshold is shown"
    )
    lacking = [*_junit_lacks(first_run, executed), *_allure_lacks(first_run, executed)]
    evidence.attach("lacking", "\n".join(lacking) or "nothing")
    assert not lacking, f"{lacking[0]} (and {len(lacking) - 1} more)"


@pytest.mark.check("E2E-22")
@pytest.mark.requires("slurm")
@pytest.mark.uses("storage")
@pytest.mark.xdist_group("TASK-044")
def test_degraded_profiles(nested: Nested, evidence: Evidence) -> None:
    """With one GPU or none, without containers, storage and network, checks are skipped for the right reason only."""
    for made in (nested.first, *nested.degraded):
        evidence.attach(made.profile.name, "\n".join(_line(result) for result in made.report.results))
        assert made.report.results, f"{made.profile.name}: no check was collected; nothing was judged"
        wrong = list(_misjudged(made))
        assert not wrong, f"{made.profile.name}: {wrong[0]} (and {len(wrong) - 1} more)"


@pytest.mark.check("E2E-17")
@pytest.mark.closing
def test_completeness(other_rows: tuple[RowState, ...], evidence: Evidence, measure: Measurements) -> None:
    """All selected rows were executed or justly skipped, 95 % of the executed passed, and no blocking one failed."""
    evidence.attach("rows", "\n".join(f"{one.row.id}: {one.verdict.words} {one.reason}".rstrip() for one in other_rows))
    found = completeness(other_rows)
    assert found.rows, "this run: no other check was selected; completeness can't be told of nothing"
    blocking = [
        f"{one.row.id}: {one.reason}"
        for one in other_rows
        if one.verdict is Verdict.FAILED and one.row.severity is Severity.BLOCKING
    ]
    assert not blocking, f"{blocking[0]} (and {len(blocking) - 1} more blocking failures); expected none"
    evidence.attach("not executed", ", ".join(found.unexecuted) or "none")
    measure("suite.passed", found.passed, "%")
    try:
        measure("suite.executed", found.executed, "%")
    except LimitExceeded as error:
        # What got no answer says nothing against the cluster: such a run is undecided, and this check is broken.
        raise AiHowError(
            "this run", f"{error}: {', '.join(found.unexecuted)}", cure="see why these have none"
        ) from error


# what a report must say


def _verdicts(report: RunReport) -> dict[str, Verdict]:
    return {result.nodeid: result.verdict for result in report.results}


def _words(verdict: Verdict | None) -> str:
    return verdict.words if verdict else "not run"


def _line(result: CheckResult) -> str:
    return f"{', '.join(result.ids)}: {result.verdict.words} {result.reason}".rstrip()


def _misjudged(made: NestedRun) -> Iterator[str]:
    """What is skipped for no good reason, what should have been skipped, and errors."""
    catalogue, absent = load_catalogue(), {one.name for one in made.report.run.absent}
    yield from (f"{name} is not declared absent in the report" for name in sorted(made.profile.lacks - absent))
    for result in made.report.results:
        wanted = [need for check in result.ids for need in catalogue[check].requires if need in absent]
        named = [name for name in absent if f"capability '{name}' is absent" in result.reason]
        who = f"{', '.join(result.ids)} is {result.verdict.words}"
        if result.verdict is Verdict.NOT_APPLICABLE:
            if not named:
                yield f"{who}, which names no absent capability: {result.reason or 'no reason given'}"
        elif wanted:
            yield f"{who}, but needs {wanted[0]}, which is absent; expected not applicable"
        elif result.verdict is not Verdict.PASSED:
            yield f"{who}: {result.reason or 'no reason given'}; expected passed, or not applicable by name"
    if not any(result.verdict is Verdict.PASSED for result in made.report.results):
        yield "no check passed: all that is left out proves nothing"


def _junit_lacks(made: NestedRun, executed: list[CheckResult]) -> Iterator[str]:
    file = made.folder / "junit.xml"
    if not file.is_file():
        yield f"{file}: was not written"
        return
    cases = {_case_key(case): case for case in ET.parse(file).getroot().iter("testcase")}  # noqa: S314  our own file
    for result in executed:
        case = cases.get(_key(result))
        if case is None:
            yield f"{file}: has no test case of {', '.join(result.ids)}"
            continue
        facts = {(one.get("name", ""), one.get("value", "")) for one in case.iter("property")}
        yield from (f"{file}: {result.ids[0]} lacks {what}" for what in _missing_facts(facts, result))
        said = case.findtext("system-out") or ""
        yield from (
            f"{file}: {result.ids[0]} does not list its evidence {item.name!r}"
            for item in result.attachments
            if item.name not in said
        )


def _missing_facts(facts: set[tuple[str, str]], result: CheckResult) -> Iterator[str]:
    catalogue = load_catalogue()
    for check in result.ids:
        wanted = {("check", check), *(("task", task) for task in catalogue[check].task)}
        yield from (f"property {name}={value}" for name, value in sorted(wanted - facts))
    shown = [value for name, value in facts if name == "threshold"]
    for figure in result.measurements:
        if not any(figure.metric in value and figure.limit in value for value in shown):
            yield f"the threshold of {figure.metric} ({figure.limit})"


def _allure_lacks(made: NestedRun, executed: list[CheckResult]) -> Iterator[str]:
    folder = made.folder / "allure"
    found = {one["fullName"]: one for one in map(_json, sorted(folder.glob("*-result.json")))}
    catalogue = load_catalogue()
    for result in executed:
        one = found.get(result.nodeid)
        if one is None:
            yield f"{folder}: has no result of {', '.join(result.ids)}"
            continue
        labels = {(label["name"], label["value"]) for label in one.get("labels", ())}
        wanted = {("tag", check) for check in result.ids}
        wanted |= {("feature", task) for check in result.ids for task in catalogue[check].task}
        yield from (f"{folder}: {result.ids[0]} lacks label {name}={value}" for name, value in sorted(wanted - labels))
        shown = [f"{part['name']} {part['value']}" for part in one.get("parameters", ())]
        for figure in result.measurements:
            if not any(figure.metric in text and figure.limit in text for text in shown):
                yield f"{folder}: {result.ids[0]} lacks the threshold of {figure.metric} ({figure.limit})"
        yield from _evidence_lacks(folder, result, one)


def _evidence_lacks(folder: Path, result: CheckResult, one: Mapping[str, Any]) -> Iterator[str]:
    sources = list(_sources(one))
    if len(sources) != len(result.attachments):
        yield f"{folder}: {result.ids[0]} has {len(sources)} attachments, expected {len(result.attachments)}"
    for source in sources:
        file = folder / source
        if not file.is_file():
            yield f"{folder}: {result.ids[0]}: the attachment {source} was not written"
    if not result.measurements and not any((folder / source).is_file() for source in sources):
        yield f"{folder}: {result.ids[0]} has no evidence"


def _sources(part: Mapping[str, Any]) -> Iterator[str]:
    yield from (attachment["source"] for attachment in part.get("attachments", ()))
    for step in part.get("steps", ()):
        yield from _sources(step)


def _json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def _case_key(case: ET.Element) -> tuple[str, str]:
    return case.get("classname", ""), case.get("name", "")


def _key(result: CheckResult) -> tuple[str, str]:
    module, _, name = result.nodeid.partition("::")
    return module.removesuffix(".py").replace("/", "."), name
