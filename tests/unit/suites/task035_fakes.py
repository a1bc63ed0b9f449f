"""What a good life of the small cluster looks like, to be spoilt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pytest_ai_how.bringup import Bringup
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.machines.reality import Shape, planned
from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.lease.lease import RECORD, Lease
from pytest_ai_how.lease.record import Step, write_record
from pytest_ai_how.pci import Claim
from pytest_ai_how.progress import Silent
from pytest_ai_how.services.protocol import Service
from pytest_ai_how.shell import Result
from suites.phase4._facts import Facts
from suites.phase4._lives import Again, Crowd, End, Interrupted, Stop
from suites.phase4._small import OFF, ON, Small
from tests.fakes import Switchboard

MACHINE = "1353342 8b9a58c0ffee"
ENTRIES = (("bridge", "name=ah-life"), ("mount", "target=/state/life/root"), ("process", "cookie=x/controller"))
FACTS = Facts({ON: "running", OFF: "off"}, frozenset({(71, 1353342, "systemd")}), ENTRIES, {ON: "boot 1353342"})
HALF = Facts({ON: "running", OFF: "absent"}, frozenset({(61, 1350000, "systemd")}), ENTRIES[:2], {ON: "boot 1350000"})
HOST = frozenset({"mount /", "interface lo"})
CLAIM = Claim("0000:01:00.0", "life", OFF)


def said(text: str, status: int = 0) -> Result:
    return Result(("pytest-ai-how", "up"), status, text)


def crowd(**changes: object) -> Crowd:
    notes = {f"worker{number}": [str(100 + number), *MACHINE.split()] for number in range(3)}
    good = {
        "result": said("life: making 2 machines"),
        "notes": notes,
        "facts": FACTS,
        "seconds": {"machines": 1.5, "ssh": 0.1},
    }
    return Crowd(**{**good, **changes})  # type: ignore[arg-type]  # the names are the fields'


def again(after: Facts = FACTS, text: str = "cluster life was up already (0.4 s)", status: int = 0) -> Again:
    return Again(said(text, status), FACTS, after)


def stop(**changes: object) -> Stop:
    good = {
        "seconds": 0.3,
        "state": "off",
        "began": "running",
        "said": "stopped in order",
        "kept": True,
        "console": "off",
    }
    return Stop(**{**good, **changes})  # type: ignore[arg-type]  # the names are the fields'


def end(**changes: object) -> End:
    bridge = "interface fw-life, number 7"
    good = {
        "result": said("cluster life is down"),
        "before": HOST,
        "during": HOST | {"interface ah-life"},
        "after": HOST,
        "witnesses": {"bridge": (bridge, bridge)},
    }
    return End(**{**good, **changes})  # type: ignore[arg-type]  # the names are the fields'


def failure(**changes: object) -> End:
    text = "node01: step 'machines' failed: made to fail on purpose when it was about to be started"
    return end(**{"result": said(text, 1), "during": HOST, "witnesses": {}, **changes})


def interrupted(**changes: object) -> Interrupted:
    good = {"name": "life", "before": FACTS, "next": said("cluster life was up already (0.4 s)"), "after": FACTS}
    return Interrupted(**{**good, **changes})  # type: ignore[arg-type]  # the names are the fields'


def half(**changes: object) -> Interrupted:
    return interrupted(**{"before": HALF, "next": said("cluster life is up (1.9 s)"), **changes})


def small(folder: Path, config: ClusterConfig | None = None) -> Small:
    config = config or load_config("local").model_copy(update={"name": "life"})
    return Small(config, Switchboard({}), folder, "20261123-160000-a1b2")


class Told(Switchboard):
    """A driver that tells what its machines are and hold."""

    def __init__(self, shapes: Mapping[str, Shape] | None = None, files: tuple[File, ...] = ()) -> None:
        super().__init__({})
        self.shapes, self.rendered = shapes, files

    def shape(self, config: ClusterConfig, node: str) -> Shape:
        [found] = [one for one in config.nodes if one.name == node]
        return self.shapes[node] if self.shapes is not None else Shape(planned(config, found))

    def files(self, config: ClusterConfig, node: str) -> tuple[File, ...]:
        return self.rendered


def bringup(driver: Switchboard, steps: Mapping[str, float] | None = None) -> Bringup:
    """A bring-up by ``driver`` that is over: all is ready, and the record says what each step took."""
    config = load_config("local")
    lease = Lease.acquire(config.name, "r1")
    for name, seconds in (steps or {}).items():
        found = lease.record.with_step(name, Step("f", "done", "r1", name, seconds=seconds))
        write_record(lease.state / RECORD, found)
    lease.close()
    return _Over(config, driver, lease, Silent())


class _Over(Bringup):
    def ready_all(self, names: Iterable[str]) -> dict[str, Service]:
        return {}
