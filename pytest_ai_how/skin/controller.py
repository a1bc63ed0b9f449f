"""The part of the process that owns the cluster: acquires it, gives orders, releases it, judges the run."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

import pytest

from pytest_ai_how.bringup import claim, left_faulty
from pytest_ai_how.config.capabilities import CAPABILITIES, declared_absent
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.outlive import keep
from pytest_ai_how.drivers.protocol import Driver, HostFacts
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.files import remove_tree
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.lease.record import Claim
from pytest_ai_how.lease.shelf import DiskShelf
from pytest_ai_how.progress import Progress, Silent
from pytest_ai_how.report.model import RunReport, RunVerdict
from pytest_ai_how.report.terminal import Style, summary
from pytest_ai_how.report.words import first_line
from pytest_ai_how.skin.absent import AbsentDriver
from pytest_ai_how.skin.crew import Crew, Orders, ToPerson
from pytest_ai_how.skin.keys import ADDED, CREW, DISTRIBUTION, ORDERED
from pytest_ai_how.skin.ledger import DURATIONS, Ledger
from pytest_ai_how.skin.own import looked_absent
from pytest_ai_how.skin.plan import plan
from pytest_ai_how.skin.settings import Settings

Handler = Callable[[int, FrameType | None], object] | int | None


class Controller:
    """Hooks of the process that owns the run: the only one, or xdist's controller."""

    def __init__(self, pytest_config: pytest.Config, settings: Settings, config: ClusterConfig) -> None:
        self._pytest_config, self._settings, self._config = pytest_config, settings, config
        self._orders: Orders | None = None
        self._facts = HostFacts("")
        self._driver: Driver | None = None
        self._why_no_machines: AiHowError | None = None
        self._crew: Crew | None = None
        self._ledger: Ledger | None = None
        self._report: RunReport | None = None
        self._kept = False
        self._former_handler: Handler = None

    # the beginning

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Choose the driver and own the cluster, before anything is made; with ``--plan``, only the first."""
        if self._pytest_config.option.collectonly:
            return
        try:
            self._start()
        except (AiHowError, OSError) as error:
            self._abandon()
            raise pytest.UsageError(str(error)) from error
        except BaseException:
            self._abandon()
            raise

    def _start(self) -> None:
        if self._settings.plan:
            driver, _ = self._choose(Silent())
            self._orders = self._decide(driver)
            return
        with ExitStack() as given_up:
            # To know what KVM does here, an image may be built.
            progress = given_up.enter_context(closing(ToPerson()))
            driver, wanted = self._choose(progress)
            self._orders = self._decide(driver)
            lease = Lease.acquire(self._config.name, self._orders.run_id, wanted)
            # Known at once, so that whatever happens next, it is given back.
            self._crew = Crew(self._pytest_config, self._orders, lease, driver, progress)
            given_up.pop_all()
        if lease.spoilt:
            self._crew.progress.say(self._config.name, left_faulty(lease.spoilt, ours=self._config.is_ours))
        DiskShelf(lease.state).clear()  # of a run that was killed
        if not lease.attached:
            self._judge(driver)
        self._orders.parts.mkdir(parents=True)
        self._ledger = Ledger(self._orders, self._pytest_config, self._crew.redactor)
        self._pytest_config.stash[CREW] = self._crew
        self._former_handler = signal.signal(signal.SIGTERM, _interrupt)

    def _choose(self, progress: Progress) -> tuple[Driver, Claim]:
        """The driver, and what it would make; one that can't be had here is no driver, which some runs can do without.

        A plan asks for no fingerprint: images that are not there are part of what it says.
        """
        config = self._config
        driver: Driver | None = None
        try:
            driver = self._pytest_config.hook.pytest_ai_how_driver(config=config, progress=progress)
            assert driver is not None  # our own implementation of the hook returns one or raises
            self._facts = driver.facts()
            wanted = Claim() if self._settings.plan else claim(config, driver)
        except AiHowError as error:
            driver = AbsentDriver(driver.name if driver else config.driver, error)
            self._facts = driver.facts()
            wanted = Claim() if self._settings.plan else claim(config, driver)
        self._driver = driver
        return driver, wanted

    def _judge(self, driver: Driver) -> None:
        """Refuse what can't work here: at once for workers, who collect for themselves, else once it is wanted."""
        try:
            driver.check(self._config)
        except AiHowError as error:
            if self._pytest_config.pluginmanager.has_plugin("dsession"):
                raise
            self._why_no_machines = error

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Where no machine can be made, refuse a run in which a test wants one, before anything is made or reported."""
        if self._why_no_machines is None or not any("bringup" in _fixtures(item) for item in session.items):
            return
        assert self._orders is not None  # the session has started
        self._ledger = None
        self._abandon()
        remove_tree(self._orders.folder)
        with suppress(OSError):  # others' reports are in it
            self._orders.folder.parent.rmdir()
        raise pytest.UsageError(str(self._why_no_machines)) from self._why_no_machines

    def _decide(self, driver: Driver) -> Orders:
        run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
        chosen = self._config.model_copy(update={"driver": driver.name})
        absent = self._settings.absent | declared_absent(chosen)
        absent |= {name: why for name, why in self._facts.absent.items() if name not in absent}
        absent |= {k: why for k, why in looked_absent(chosen, driver.name, run_id).items() if k not in absent}
        added: Sequence[Mapping[str, str] | None] = self._pytest_config.hook.pytest_ai_how_capabilities(
            config=self._config, facts=self._facts
        )
        known = tuple(name for mapping in added for name in mapping or ())
        self._pytest_config.stash[ADDED] = known
        for mapping in reversed(added):  # a conftest answers before an installed plugin, and wins
            absent |= mapping or {}
        return Orders(
            settings=self._settings,
            config=self._config,
            run_id=run_id,
            driver=driver.name,
            folder=Path(self._settings.reports) / run_id,
            absent={name: why for name, why in absent.items() if why},
            known=known,
            ordered=self._pytest_config.stash.get(ORDERED, False),
        )

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Give an xdist worker its orders."""
        assert self._orders is not None  # the session has started
        node.workerinput["ai_how"] = self._orders.to_json()  # type: ignore[attr-defined]  # xdist has no types

    def pytest_report_header(self) -> list[str]:
        """Which cluster, made by what and why, what it lacks, how tests are distributed."""
        if self._orders is None:
            return [f"ai-how: cluster {self._config.name}; nothing is made or contacted (--collect-only)"]
        why = "chosen by driver: auto" if self._config.driver == "auto" else "as configured"
        notes = "".join(f"; {note}" for note in self._facts.notes)
        found = self._crew is not None and self._crew.lease.attached
        again = ", found up and used again" if found else ""
        lines = [
            f"ai-how: cluster {self._config.name}{again}, driver {self._orders.driver} ({why}{notes})",
            f"ai-how: run {self._orders.run_id}, scale {self._settings.scale}, reports in {self._orders.folder}",
        ]
        ours = {name: why for name, why in self._orders.absent.items() if name in (*CAPABILITIES, *self._orders.known)}
        lines += [f"ai-how: absent: {name}: {why}" for name, why in ours.items()]
        if distribution := self._pytest_config.stash.get(DISTRIBUTION, ""):
            lines.append(f"ai-how: {distribution}")
        return lines

    # the middle

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """With ``--plan``, print the plan in place of running."""
        if not self._settings.plan or self._orders is None or session.testsfailed:
            return None
        cache = getattr(self._pytest_config, "cache", None)
        durations: dict[str, float] = cache.get(DURATIONS, {}) if cache is not None else {}
        reporter = self._pytest_config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.section("plan")
            assert self._driver is not None  # chosen before the orders were given
            for line in plan(self._orders, self._driver, session.items, durations):
                reporter.write_line(line)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a test came to."""
        if self._ledger is not None:
            self._ledger.take(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that can't be collected holds claims that nobody tests."""
        if self._ledger is not None and report.failed:
            self._ledger.trouble(f"{report.nodeid}: could not be collected")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """An xdist worker ended otherwise than by finishing; xdist says nothing of it when no test was running."""
        if self._ledger is not None and error:
            name = getattr(getattr(node, "gateway", None), "id", "?")
            self._ledger.trouble(f"worker {name}: did not end well: {first_line(str(error))}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Somebody stopped the run."""
        if self._ledger is not None:
            self._ledger.trouble(f"the run was interrupted ({str(excinfo.value) or 'SIGINT'})")

    # the end

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """When all workers have ended: take the cluster down, judge, write the reports, set the exit status."""
        if self._ledger is None:
            return
        assert self._crew is not None  # made before the ledger
        with _undisturbed():
            self._crew.learn_secrets()
            self._report = self._ledger.judge(int(exitstatus))
            self._release(failed=self._report.verdict is not RunVerdict.FIT)
            self._report = self._ledger.amend(self._report)
            self._ledger.write(self._report)
        self._pytest_config.hook.pytest_ai_how_verdict(report=self._report)
        session.exitstatus = _status(int(exitstatus), self._report.verdict, self._ledger.complaints)

    def _release(self, *, failed: bool) -> None:
        crew, self._crew = self._crew, None
        assert crew is not None  # made when the session started, as the ledger was
        assert self._ledger is not None
        crew.close()
        DiskShelf(crew.lease.state).clear()
        try:
            keep(crew.consoles(), crew.orders.consoles, crew.redactor.data)
        except OSError as error:
            self._ledger.complaints.append(f"{crew.orders.consoles}: the consoles are not kept: {error}")
        try:
            self._kept = crew.lease.release(keep=self._settings.keep, failed=failed)
        except AiHowError as error:
            self._ledger.trouble(f"the cluster was not taken down: {error}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what the run found."""
        if self._report is None or self._ledger is None:
            return
        writer = terminalreporter._tw
        terminalreporter.section(f"cluster {self._config.name}")
        style = Style(writer.fullwidth if terminalreporter.isatty else None, writer.hasmarkup)
        for line in summary(self._report, self._ledger.folder, style):
            terminalreporter.write_line(line)
        for complaint in self._ledger.complaints:
            terminalreporter.write_line(complaint, red=True)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Give back what a session that never ran holds; say as the last words how to reach a kept cluster."""
        self._abandon()
        if self._former_handler is not None:
            signal.signal(signal.SIGTERM, self._former_handler)
        if self._kept:
            writer = self._pytest_config.get_terminal_writer()
            writer.line(kept_line(self._config, self._settings.cluster))

    def _abandon(self) -> None:
        crew, self._crew = self._crew, None
        if crew is None:
            return
        crew.close()
        # A cluster that was up before us, and that nobody has used, is left as it was found.
        with _undisturbed():
            crew.lease.release(keep="always" if crew.lease.attached else "never")


def _fixtures(item: pytest.Item) -> Sequence[str]:
    """The fixtures that a test asks for, those of its fixtures included."""
    names: Sequence[str] = getattr(item, "fixturenames", ())
    return names


def kept_line(config: ClusterConfig, cluster: str) -> str:
    """How to attach to, look inside and take down a kept cluster."""
    option = f"--cluster {config.name}"
    look = f"exec {option} -- COMMAND" if config.driver == "host" else f"ssh {option} {config.nodes[0].name}"
    return (
        f"cluster {config.name} is kept: attach: pytest --cluster={cluster} SUITE; look inside: pytest-ai-how {look}; "
        f"take down: pytest-ai-how down --cluster {config.name}"
    )


def _status(exitstatus: int, verdict: RunVerdict, complaints: Sequence[str]) -> int:
    """0 only for a fit cluster whose report was written; pytest's own statuses above 1 say more than ours."""
    if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return exitstatus
    fit = verdict is RunVerdict.FIT and not complaints
    return pytest.ExitCode.OK if fit else pytest.ExitCode.TESTS_FAILED


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM: a take-down that is interrupted half-way leaves things behind."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
