"""``--plan``: what would be made and run, how long, and what is not applicable and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from pytest_ai_how import pci
from pytest_ai_how.catalogue import load_catalogue
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.protocol import Driver
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.lease.reap import status
from pytest_ai_how.report.words import duration
from pytest_ai_how.skin.absent import refusals
from pytest_ai_how.skin.crew import Orders
from pytest_ai_how.skin.marks import ids_of, requirements

_NO_TASK = "no task"


def plan(orders: Orders, driver: Driver, items: Sequence[pytest.Item], durations: Mapping[str, float]) -> list[str]:
    """The plan in lines. No machine is contacted; images are looked up in the cache, devices in /sys."""
    refused = {item: why for item in items if (why := _why_not(orders, item))}
    return [
        *plan_of_cluster(orders.config, driver),
        "",
        *_tasks([item for item in items if item not in refused], durations),
        *_refused(refused),
    ]


def plan_of_cluster(config: ClusterConfig, driver: Driver) -> list[str]:
    """What would be made of one cluster, and why it can't be made here."""
    by_driver = config.model_copy(update={"driver": driver.name})
    try:
        devices, starting = pci.plan_here(config), pci.plan_here(pci.starting(config))
        unknown: tuple[AiHowError, ...] = ()
    except AiHowError as error:  # the record of another cluster, which may hold a device, can't be read
        devices, starting, unknown = pci.Plan((), ()), pci.Plan((), ()), (error,)
    there = status(config.name)
    # Its bridge and its memory are taken by itself.
    found: Sequence[AiHowError] = () if there.condition in ("kept", "in use") else refusals(driver, config)
    refused = [error for error in found if str(error) not in map(str, (starting.error, *unknown))]
    later = [refusal for refusal in devices.refusals if refusal not in starting.refusals]
    return [
        f"cluster {config.name}, driver {driver.name}" + (f"; {there.condition}" if there.record else ""),
        *_machines(config, devices),
        *(_images(by_driver) if by_driver.is_ours else [_nothing_made(config)]),
        *(f"not possible here: {_indented(str(one))}" for one in (*refused, *unknown, *starting.refusals)),
        *(f"not possible here, once it is started: {one}" for one in later),
    ]


def _nothing_made(config: ClusterConfig) -> str:
    if config.storage.kind == "scratch":
        return f"nothing is made but {config.storage.mount}, a folder to work in, which is removed afterwards"
    return "nothing is made: the machines exist already"


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _machines(config: ClusterConfig, devices: pci.Plan) -> Iterator[str]:
    for node in config.nodes:
        gpus = f", {node.gpus.count} {node.gpus.kind} GPUs" if node.gpus else ""
        off = "" if node.auto_start else "; defined and left off"
        yield f"  {node.name}  {node.address}  {', '.join(node.roles)}: {node.cpus} CPUs, {node.memory} MiB{gpus}{off}"
        for assignment in devices.of(config.name, node.name):
            yield f"    device {assignment}"
        for mount in node.virtiofs:
            yield f"    directory {mount.source} at {mount.mount}{', read only' if mount.read_only else ''}"


def _images(config: ClusterConfig) -> Iterator[str]:
    from pytest_ai_how.image import image_digest
    from pytest_ai_how.image.needed import images_of, origin
    from pytest_ai_how.image.store import Store

    for name in images_of(config):
        try:
            there = Store().find(name, image_digest(name, origin(config)))
        except AiHowError as error:
            yield f"  image {name}: {_indented(str(error))}"
            continue
        yield f"  image {name}: {there.path if there else 'to be built'}"


def _why_not(orders: Orders, item: pytest.Item) -> str:
    catalogue = load_catalogue()
    wanted = [*requirements(item), *(need for check in ids_of(item) for need in catalogue[check].requires)]
    return next((f"capability '{one}' is absent: {why}" for one in wanted if (why := orders.why_absent(one))), "")


def _tasks(items: Sequence[pytest.Item], durations: Mapping[str, float]) -> Iterator[str]:
    catalogue = load_catalogue()
    by_task: dict[str, list[pytest.Item]] = {}
    for item in items:
        tasks = [task for check in ids_of(item) for task in catalogue[check].task[:1]]
        by_task.setdefault(tasks[0] if tasks else _NO_TASK, []).append(item)
    yield f"{len(items)} tests would run{_estimate(items, durations)}"
    for task in sorted(by_task):
        checks = {check for item in by_task[task] for check in ids_of(item)}
        title = catalogue.tasks.get(task, "")
        tests = by_task[task]
        yield f"  {task} {title}".rstrip() + f": {len(checks)} checks, {len(tests)} tests{_estimate(tests, durations)}"


def _estimate(items: Sequence[pytest.Item], durations: Mapping[str, float]) -> str:
    known = [durations[item.nodeid] for item in items if item.nodeid in durations]
    if not known:
        return ""
    unknown = len(items) - len(known)
    return f", {duration(sum(known))} last time" + (f" ({unknown} never run)" if unknown else "")


def _refused(refused: Mapping[pytest.Item, str]) -> Iterator[str]:
    if not refused:
        return
    yield ""
    yield f"{len(refused)} tests are not applicable"
    for item, why in refused.items():
        yield f"  {', '.join(ids_of(item)) or item.nodeid}: {why}"
