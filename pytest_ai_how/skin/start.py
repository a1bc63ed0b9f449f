"""Starting a process's part in a run: which hooks it gets."""

from __future__ import annotations

import sys

import pytest

from pytest_ai_how.config.loader import load_config, load_configs
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.limits import load_limits
from pytest_ai_how.skin.controller import Controller
from pytest_ai_how.skin.crew import Crew, Orders
from pytest_ai_how.skin.keys import ADDED, CLUSTER, CREW
from pytest_ai_how.skin.own import OwnAnswers
from pytest_ai_how.skin.plan_all import PlanOfAll
from pytest_ai_how.skin.runner import Runner
from pytest_ai_how.skin.settings import Settings


def start(config: pytest.Config, settings: Settings) -> None:
    """Read the configuration and register the hooks of the only process, or of xdist's controller.

    Raises :class:`pytest.UsageError` with every mistake of the configuration; nothing was made or contacted.
    """
    if sys.flags.optimize:
        raise pytest.UsageError(
            "python -O drops assertions, and with them the checks\n  do: run without -O and PYTHONOPTIMIZE"
        )
    try:
        clusters = load_configs(settings.cluster)
        for one in clusters:
            load_limits(settings.limits or one.limits)
        if len(clusters) > 1 and settings.plan:
            config.pluginmanager.register(OwnAnswers(config, builds=False), "ai_how_own")
            config.pluginmanager.register(PlanOfAll(config, settings.cluster, clusters), "ai_how_plan")
            return
        cluster = load_config(settings.cluster)
    except AiHowError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[CLUSTER] = cluster
    config.pluginmanager.register(OwnAnswers(config, builds=not settings.plan), "ai_how_own")
    config.pluginmanager.register(Controller(config, settings, cluster), "ai_how_controller")
    # xdist's controller neither collects nor runs, so what this registers is idle there.
    config.pluginmanager.register(Runner(config), "ai_how_runner")
    config.hook.pytest_ai_how_configure(config=cluster)


def start_worker(config: pytest.Config, text: str) -> None:
    """Join the run that the controller's orders describe, and register the hooks of an xdist worker."""
    orders = Orders.from_json(text)
    config.stash[CLUSTER], config.stash[ADDED] = orders.config, orders.known
    if orders.ordered:
        # A worker parses the command line anew and does not learn of a distribution that was chosen later.
        config.option.loadgroup = True
    crew = config.stash[CREW] = Crew(config, orders, Lease.join(orders.config.name, orders.run_id))
    config.add_cleanup(crew.close)
    config.pluginmanager.register(OwnAnswers(config), "ai_how_own")
    config.pluginmanager.register(Runner(config), "ai_how_runner")
    config.hook.pytest_ai_how_configure(config=orders.config)
