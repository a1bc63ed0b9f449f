"""A cluster whose monitoring answers as it was captured."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.facts import Fact, Readings
from pytest_ai_how.listening import LISTENING
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.monitoring import Monitoring
from pytest_ai_how.shell import Result
from suites.phase1._facts import CPUS, MEMORY
from suites.phase1._monitoring import PROCESSES
from tests.fakes import fake_cluster

DATA = Path(__file__).parents[2] / "data/monitoring"
#: Standard output, exit status, standard error.
Answer = list[Any]


def asked_for(argv: tuple[str, ...]) -> str:
    """The request of a command of curl as the captured answers are named."""
    data = [argv[i + 1] for i, word in enumerate(argv) if word == "--data-urlencode"]
    method = "POST " if "--data-raw" in argv else f"{argv[argv.index('--request') + 1]} " if "--request" in argv else ""
    address = argv[-1].split("//", 1)[1].split(":", 1)[1]
    if method == "DELETE ":
        address = address.rpartition("/")[0]
    return method + address + (f"?{'&'.join(data)}" if data else "")


def captured(*files: str) -> dict[str, Answer]:
    """The answers of a healthy cluster, and those that a fault changes."""
    found: dict[str, Answer] = {}
    for name in ("healthy", *files):
        found |= json.loads((DATA / f"{name}.json").read_text())
    return found


def said(body: object, status: int = 200) -> Answer:
    """An answer made up, for what can't be had from a healthy cluster."""
    return [f"{body if isinstance(body, str) else json.dumps(body)}\n{status}", 0, ""]


def changed(answers: Mapping[str, Answer], path: str, change: Callable[[Any], None]) -> dict[str, Answer]:
    """The captured answers with the JSON of one changed in place."""
    body, _, status = answers[path][0].rpartition("\n")
    data = json.loads(body)
    change(data)
    return {**answers, path: said(data, int(status))}


def monitoring(answers: Mapping[str, Answer], config: ClusterConfig | None = None) -> Monitoring:
    """Monitoring of ``configs/local.yaml`` whose controller answers so.

    While an alert was handed in and is not ended, Alertmanager's list is the captured one that holds it.
    """
    posted: list[str] = []

    def curl(argv: tuple[str, ...]) -> Result | Exception:
        path = asked_for(argv)
        if path.startswith("POST") and path.endswith("/alerts"):
            posted.append(path)
        if path == "9093/api/v2/alerts" and len(posted) == 1:
            path += "#synthetic"
        if path not in answers:
            return AssertionError(f"nothing was captured for {path}")
        out, status, errors = answers[path]
        return Result(argv, status, out, errors, node="controller")

    script = {"curl": curl, "date": "1795727758\n"}
    return Monitoring(fake_cluster({"controller": script}, config=config or load_config("local", environ={})))


def facts(evidence: Evidence, name: str = "healthy", **changes: Mapping[str, str]) -> Facts:
    """Captured facts of the machines; ``memory={"node02": "…"}`` replaces an output."""
    told = json.loads((DATA / f"{name}-facts.json").read_text())
    known: dict[str, Fact[Any]] = {"memory": MEMORY, "cpus": CPUS, "listening": LISTENING, "processes": PROCESSES}
    outputs = {key: told[fact.name] | dict(changes.get(key, {})) for key, fact in known.items()}
    nodes = outputs["memory"]
    return Facts(
        Readings.told({node: {fact: outputs[key][node] for key, fact in known.items()} for node in nodes}), evidence
    )
