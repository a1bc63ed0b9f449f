"""The controller's book of a run: results as they arrive, and at the end the report."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_ai_how
from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.report.assemble import amend, assemble, rows_of
from pytest_ai_how.report.model import WORST_FIRST, Absent, CheckResult, Run, RunReport, Verdict
from pytest_ai_how.report.redact import Redactor
from pytest_ai_how.shell import quote
from pytest_ai_how.skin.crew import Orders
from pytest_ai_how.skin.gates import Gates
from pytest_ai_how.skin.outcomes import Outcomes
from pytest_ai_how.skin.results import Collection, Selected, unpack
from pytest_ai_how.skin.written import written_checks

DURATIONS = "ai_how/durations"


class Ledger:
    """Results by node id, troubles, and the reports; ``complaints`` say which reports could not be written."""

    def __init__(self, orders: Orders, pytest_config: pytest.Config, redactor: Redactor) -> None:
        self._orders, self._pytest_config = orders, pytest_config
        self._started = time.time()
        self._results: dict[str, CheckResult] = {}
        self._crashed: dict[str, str] = {}
        self._red: set[str] = set()
        self._troubles: list[str] = []
        self.complaints: list[str] = []
        self._redactor = redactor

    @property
    def folder(self) -> Path:
        """The run's folder of reports."""
        return self._orders.folder

    def take(self, report: pytest.TestReport) -> None:
        """Take in a test's last report, or that its worker died; and what pytest alone knows to have failed."""
        if report.failed:
            self._red.add(report.nodeid)
        if text := getattr(report, "ai_how_result", ""):
            result = unpack(text, self._orders.parts)
            # One test can end more than once: --keep-duplicates, --dist=each.
            self._results[report.nodeid] = _worst(result, self._results.get(report.nodeid, result))
        elif report.when not in ("setup", "call", "teardown"):
            self._crashed[report.nodeid] = reason = str(report.longrepr)
            # Nobody else can tell those who wait for it.
            ids = Collection.read(self._orders.parts).ids_of(report.nodeid)
            Gates(self._orders.parts, ids, {}).note(ids, Verdict.BROKEN, reason)
            crashed = CheckResult(nodeid=report.nodeid, verdict=Verdict.BROKEN, ids=ids, reason=reason)
            Outcomes(self._orders.parts).note(report.nodeid, crashed)

    def trouble(self, text: str) -> None:
        """Note why the run cannot judge, whatever its checks say."""
        if text not in self._troubles:
            self._troubles.append(text)

    def judge(self, exitstatus: int) -> RunReport:
        """The report of all that is known now."""
        catalogue = load_catalogue()
        collection = Collection.read(self._orders.parts)
        if exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            self.trouble("pytest failed internally")
        for skipped in collection.self_skipped:
            self.trouble(skipped)
        results = [*self._with_result(), *self._without_result(collection)]
        return assemble(
            self._run(),
            results,
            rows_of(catalogue),
            titles=catalogue.tasks,
            deselected=self._not_selected(collection, results),
            redactor=self._redactor,
        )

    def amend(self, report: RunReport) -> RunReport:
        """The report with what became known of the run since it was judged; no result is looked at again."""
        return amend(report, self._run(), self._redactor)

    def _with_result(self) -> Iterator[CheckResult]:
        for nodeid, result in self._results.items():
            if nodeid in self._crashed:
                crash = {"verdict": Verdict.BROKEN, "reason": self._crashed[nodeid]}
                yield _worst(result, result.model_copy(update=crash))
                continue
            if nodeid in self._red and result.verdict in (Verdict.PASSED, Verdict.NOT_APPLICABLE):
                self.trouble(f"{result.nodeid}: failed, says pytest, but came to '{result.verdict.words}'")
            yield result

    def _without_result(self, collection: Collection) -> list[CheckResult]:
        missing = {nodeid: one for nodeid, one in collection.selected.items() if nodeid not in self._results}
        left_out = [nodeid for nodeid in missing if nodeid not in self._crashed]
        if left_out:
            self.trouble(f"{len(left_out)} of {len(collection.selected)} selected tests did not run")
        return [self._substitute(nodeid, one) for nodeid, one in missing.items()]

    def _substitute(self, nodeid: str, selected: Selected) -> CheckResult:
        verdict, reason = Verdict.BLOCKED, "blocked: the run ended before it"
        if nodeid in self._crashed:
            verdict, reason = Verdict.BROKEN, self._crashed[nodeid]
        return CheckResult(
            nodeid=selected.nodeid, verdict=verdict, ids=selected.ids, reason=reason, location=selected.location
        )

    def _not_selected(self, collection: Collection, results: list[CheckResult]) -> dict[str, str]:
        tested = {check for result in results for check in result.ids}
        reasons = dict.fromkeys(written_checks(), "in a suite that was not selected")
        reasons |= dict.fromkeys(collection.deselected, "deselected")
        parts = {c: f"deselected in part: {', '.join(ids)}" for c, ids in collection.deselected.items() if c in tested}
        return {check: why for check, why in reasons.items() if check not in tested} | parts

    def _run(self) -> Run:
        orders = self._orders
        return Run(
            id=orders.run_id,
            cluster=orders.config.name,
            driver=orders.driver,
            started=self._started,
            ended=time.time(),
            version=pytest_ai_how.__version__,
            command=quote(["pytest", *map(str, self._pytest_config.invocation_params.args)]),
            host={
                "kernel": platform.release(),
                "machine": platform.machine(),
                "cpus": str(os.cpu_count()),
                "python": platform.python_version(),
                "pytest": pytest.__version__,
            },
            absent=tuple(Absent(name=name, reason=why) for name, why in orders.absent.items()),
            troubles=tuple(self._troubles),
        )

    def write(self, report: RunReport) -> None:
        """Write all forms of the report; what can't be written is a complaint, and the others are written."""
        from pytest_ai_how.report.forms import write_all  # with its libraries, which the first check need not wait for

        self.complaints += write_all(report, self.folder)
        shutil.rmtree(self._orders.parts, ignore_errors=True)
        self._remember()

    def _remember(self) -> None:
        """Keep how long tests took, for ``--plan``; without pytest's cache plugin there is no such memory."""
        cache = getattr(self._pytest_config, "cache", None)
        if cache is not None:
            known: dict[str, float] = cache.get(DURATIONS, {})
            fresh = {result.nodeid: round(result.seconds, 3) for result in self._results.values()}
            cache.set(DURATIONS, known | fresh)


def _worst(*results: CheckResult) -> CheckResult:
    return min(results, key=lambda result: WORST_FIRST.index(result.verdict))
