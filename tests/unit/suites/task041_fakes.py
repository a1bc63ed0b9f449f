"""Storage whose fio says what a test gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_ai_how.services.storage import Medium, Storage
from suites.phase6._wire import Wire, crossing, facing
from tests.fakes import fake_cluster
from tests.unit.services.beegfs.sample import beegfs_config

CAPTURED = json.loads((Path(__file__).parents[2] / "data" / "storage" / "fio-3.39-seq-read.json").read_text())
MIB = 2**20
#: What the pretended medium gives, in MiB/s and files a second.
RAW = {"seq-write": 500.0, "seq-read": 1000.0, "filecreate": 20_000.0, "filestat": 50_000.0, "filedelete": 10_000.0}


def fio(rates: Mapping[str, float], *, device: float | None = 1.0, lasts: float = 1.0) -> Any:
    """Answer a fio command with a report of ``rates`` by job name (MiB/s, or files a second).

    What has neither a time nor engines of metadata takes as long as its size does, all else ``lasts`` seconds.
    """

    def answer(argv: tuple[str, ...]) -> str:
        names = [word.removeprefix("--name=") for word in argv if word.startswith("--name=")]
        size = next((float(word[len("--size=") : -1]) for word in argv if word.startswith("--size=")), 0.0)
        timed = any(word.startswith("--runtime=") for word in argv)
        report = json.loads(json.dumps(CAPTURED))
        job, moved = report["jobs"].pop(), 0
        for name in names:
            per_second = rates.get(name + (" cached" if "--direct=0" in argv else ""), 1.0)
            seconds = lasts if timed or not size else size / per_second
            moved = int(per_second * MIB * seconds)
            side = {"io_bytes": moved, "runtime": 1000 * seconds, "total_ios": per_second * seconds}
            report["jobs"].append(job | {"jobname": name, "read": side})
        if device is None:
            del report["disk_util"]
        else:
            report["disk_util"][0]["read_sectors"] = int(moved * device) // 512
        return json.dumps(report)

    return answer


def storage(
    rates: Mapping[str, float],
    *,
    device: float = 1.0,
    others: Mapping[str, float] | None = None,
    raw: Mapping[str, float] = RAW,
) -> Storage:
    """A storage whose nodes measure ``rates``, node02 ``others`` when given, over a medium of ``raw``."""
    nodes = {
        "controller": {("mkdir",): "", ("rm",): "", ("fio",): fio(raw)},
        "node01": {("mkdir",): "", ("fio",): fio(rates, device=device)},
        "node02": {("mkdir",): "", ("fio",): fio(others or rates, device=device)},
    }
    cluster = fake_cluster(nodes)
    return Storage(cluster, Medium(cluster.controller, "/raw"))


def network(*rates: float) -> tuple[Wire, list[tuple[str, ...]]]:
    """A network that carries these rates in MiB/s to and from each of two machines with targets, and what was asked."""
    asked: list[tuple[str, ...]] = []

    def iperf3(rate: float) -> Any:
        def answer(argv: tuple[str, ...]) -> str:
            asked.append(argv)
            return json.dumps({"end": {"sum_received": {"bits_per_second": rate * 8 * MIB}}})

        return answer

    names = ("node01", "node02")
    told = dict(zip(names, rates * 2, strict=False))
    cluster = fake_cluster({name: {("iperf3",): iperf3(told[name])} for name in names}, config=beegfs_config())
    return Wire(cluster, facing(names, names), crossing(names, names)), asked
