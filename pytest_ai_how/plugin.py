"""The pytest skin of the library. Without ``--cluster`` it only declares options, marks and fixtures."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pytest_ai_how.skin import settings
from pytest_ai_how.skin.keys import ADDED, CLUSTER, CREW, DISTRIBUTION, ORDERED, SETTINGS
from pytest_ai_how.skin.marks import MARKS, looks_like_check

pytest_plugins = [
    f"pytest_ai_how.fixtures.{noun}"
    for noun in (
        *(
            "cluster",
            "machines",
            "devices",
            "slurm",
            "accounting",
            "storage",
            "beegfs",
            "apptainer",
            "registry",
            "monitoring",
            "images",
        ),
        *("launcher", "pytorch", "scale", "facts", "evidence", "measure", "culprit", "run"),
    )
]

# Letters and words for what pytest has no outcome of: category in the counts, letter, word.
_STATUS = {
    "broken": ("error", "B", ("BROKEN", {"red": True})),
    "blocked": ("blocked", "X", ("BLOCKED", {"red": True})),
    "no_evidence": ("failed", "N", ("NO EVIDENCE", {"red": True})),
    "not_applicable": ("skipped", "-", ("NOT APPLICABLE", {"yellow": True})),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    settings.declare(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks for other repositories."""
    from pytest_ai_how import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Choose the distribution before xdist does: our groups and our order need ``loadgroup``."""
    found = config.stash[SETTINGS] = settings.read(config)
    if found.cluster and getattr(config.option, "numprocesses", None):
        _distribute(config, found.plan)
    return (yield)


def _distribute(config: pytest.Config, plan: bool) -> None:
    option = config.option
    if plan or option.collectonly:
        option.numprocesses = 0
    elif option.dist == "no" and not option.distload:
        option.dist, option.loadscopereorder = "loadgroup", False
        config.stash[ORDERED] = True
        config.stash[DISTRIBUTION] = (
            "distribution loadgroup: gates first, tests that depend on each other on one worker"
        )
    else:
        config.stash[DISTRIBUTION] = (
            f"distribution {option.dist} as given: gates are not waited for, dependent tests may be parted"
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Where the distribution is ours, so is the scheduler."""
    if not config.stash.get(ORDERED, False):
        return None
    from pytest_ai_how.skin.schedule import OrderedGroups

    return OrderedGroups(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks; with ``--cluster``, read the configuration and start our part."""
    for line in MARKS:
        config.addinivalue_line("markers", line)
    orders = getattr(config, "workerinput", {}).get("ai_how")
    if orders:
        _start_worker(config, orders)
        return
    found = config.stash[SETTINGS] = config.stash.get(SETTINGS, None) or settings.read(config)
    if found.cluster:
        _start(config, found)
    elif found.plan:
        raise pytest.UsageError(f"--plan: {settings.NO_CLUSTER}")


def _start(config: pytest.Config, found: settings.Settings) -> None:
    from pytest_ai_how.skin.start import start

    start(config, found)


def _start_worker(config: pytest.Config, orders: str) -> None:
    from pytest_ai_how.skin.start import start_worker

    start_worker(config, orders)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Tell wrong marks as errors of the file that they are in."""
    report = yield
    ours = CLUSTER in collector.config.stash
    if marked := [
        item
        for item in report.result
        if isinstance(item, pytest.Item) and (looks_like_check(item) or (ours and _has_mark(item)))
    ]:
        from pytest_ai_how.skin.collection import problems

        if found := problems(marked, collector.config.stash.get(ADDED, None)):
            report.outcome, report.longrepr, report.result = "failed", "\n".join(found), []
    return report


def _has_mark(item: pytest.Item) -> bool:
    return any(mark.name in ("check", "requires", "on", "reads", "uses", "exclusive") for mark in item.iter_markers())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without a cluster a check is an error, whatever it asks for."""
    if CREW not in item.config.stash and looks_like_check(item):
        pytest.fail(settings.NO_CLUSTER, pytrace=False)


def pytest_report_teststatus(
    report: pytest.TestReport,
) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Show verdicts that pytest has no outcome for."""
    return _STATUS.get(getattr(report, "ai_how_verdict", ""))
