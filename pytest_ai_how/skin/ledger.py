"""The controller's book of a run: results as they arrive, and at the end the report."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import pytest_ai_how
from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.report.assemble import assemble, rows_of
from pytest_ai_how.report.model import Absent, CheckResult, Run, RunReport, Verdict
from pytest_ai_how.report.redact import Redactor
from pytest_ai_how.shell import quote
from pytest_ai_how.skin.crew import Orders
from pytest_ai_how.skin.gates import Gates
from pytest_ai_how.skin.outcomes import Outcomes
from pytest_ai_how.skin.results import Collection, Selected, unpack

DURATIONS = "ai_how/durations"
_MARK = re.compile(r"mark\.check\(([^)]*)\)")
_ID = re.compile(r"[A-Z][A-Z0-9]{2}-\d\d")


class Ledger:
    """Results by node id, troubles, and the reports; ``complaints`` say which reports could not be written."""

    def __init__(self, orders: Orders, pytest_config: pytest.Config, redactor: Redactor) -> None:
        self._orders, self._pytest_config = orders, pytest_config
        self._started = time.time()
        self._results: dict[str, CheckResult] = {}
        self._crashed: dict[str, str] = {}
        self._troubles: list[str] = []
        self.complaints: list[str] = []
        self._redactor = redactor

    @property
    def folder(self) -> Path:
        """The run's folder of reports."""
        return self._orders.folder

    def take(self, report: pytest.TestReport) -> None:
        """Take in a test's last report, or that its worker died."""
        if text := getattr(report, "ai_how_result", ""):
            result = unpack(text, self._orders.parts)
            self._results[report.nodeid] = result
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
        results = [*self._results.values(), *self._without_result(collection)]
        return assemble(
            self._run(),
            results,
            rows_of(catalogue),
            titles=catalogue.tasks,
            deselected=self._not_selected(collection, results),
            redactor=self._redactor,
        )

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
        return {check: why for check, why in reasons.items() if check not in tested}

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


def written_checks() -> set[str]:
    """The rows for which our own suites have a test, by the text of the suites."""
    spec = find_spec("pytest_ai_how.suites")

    found: set[str] = set()
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(root).rglob("test_*.py"):
            for arguments in _MARK.findall(path.read_text(encoding="utf-8")):
                found.update(_ID.findall(arguments))
    return found
