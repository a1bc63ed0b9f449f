"""The layers and the network that TASK-041 measures a shared file system against: which one is slow is told."""

from __future__ import annotations

import doctest

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import InvalidMeasurement, LimitExceeded, Measurements
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.storage import Medium, Storage
from pytest_ai_how.services.storage.fio import FioReport
from pytest_ai_how.shell import Result
from suites.phase6 import _wire
from suites.phase6 import test_task041_storage_performance as task041
from suites.phase6._chain import Chain, Layer, layers
from tests.fakes import fake_cluster
from tests.unit.services.beegfs.sample import beegfs_config
from tests.unit.suites.task041_fakes import MIB, network, storage

SCRATCH = "/mnt/shared/.ai-how-x"


@pytest.mark.seen_to_fail("STO-18")
def test_no_more_is_asked_for_than_the_network_carries(evidence: Evidence, measure: Measurements) -> None:
    made, (wire, asked) = storage({"seq-write": 60}), network(50, 40)
    seen = task041.beside_the_medium(made, SCRATCH, task041.WRITE, wire=wire)
    # Half of all data stays on the machine that writes it.
    assert (seen.reached, seen.medium, seen.network, seen.ceiling) == (120, 500, 180, 180)
    assert {argv[2] for argv in asked} == {"10.78.0.11", "10.78.0.12"}
    assert not any("--reverse" in argv for argv in asked)
    task041.test_sequential_write(made, seen, SCRATCH, evidence, measure, Culprit(evidence), wire)
    assert [item.metric for item in measure.items] == [
        "storage.raw.seq_write", "storage.network.write", "storage.possible.seq_write", "storage.seq_write",
    ]  # fmt: skip
    slow = storage({"seq-write": 30})
    seen = task041.beside_the_medium(slow, SCRATCH, task041.WRITE, wire=wire)
    limit = r"storage\.seq_write is 60 MiB/s, expected at least 90 MiB/s \(50% of storage\.possible\.seq_write, 180 "
    figures = Measurements(load_limits("local"))
    with pytest.raises(AssertionError, match=limit):
        task041.test_sequential_write(slow, seen, SCRATCH, evidence, figures, Culprit(evidence), wire)


def test_some_get_their_part_of_the_network() -> None:
    wire, asked = network(50, 40)
    one = task041.beside_the_medium(storage({"seq-read": 60}), SCRATCH, task041.READ, ["node01"], 1, wire)
    assert one.network == 90
    assert all("--reverse" in argv for argv in asked), "what is read comes from the targets"


def test_without_targets_elsewhere_no_network_is_crossed() -> None:
    config = beegfs_config()
    alone = fake_cluster({}, config=config.model_copy(update={"nodes": config.nodes[:2]}))
    with _wire.wire(alone) as found:
        assert found is None


def test_servers_outlast_all_that_is_measured_beside_them() -> None:
    listens = 'tcp LISTEN 0 128 0.0.0.0:5201 0.0.0.0:* users:(("iperf3",pid=9,fd=3))\n'
    script = {"systemd-run": "", "systemctl stop": "", "ss": listens}
    cluster = fake_cluster({"*": script}, config=beegfs_config())
    with _wire.wire(cluster) as found:
        assert found is not None
    calls = [call.argv for call in cluster["node01"].transport.calls]  # type: ignore[attr-defined]
    assert "--property=RuntimeMaxSec=7200" in calls[0]
    assert calls[-1] == ("systemctl", "stop", "ai-how-iperf3")


def test_who_faces_whom_is_as_its_samples_say() -> None:
    found = doctest.testmod(_wire)
    assert (found.attempted > 0, found.failed) == (True, 0)


def link(name: str, *rates: float) -> Layer:
    """A layer that measures these rates in MiB/s, one after the other."""
    left = list(rates)

    def measure(job: task041.FioJob) -> dict[str, tuple[FioReport, Result]]:
        rate = left.pop(0) if len(left) > 1 else left[0]
        report = FioReport(name, "fio-3.39", int(rate * MIB), 1.0, 1)
        return {name: (report, Result(("fio",), 0, "{}", node=name))}

    return Layer(name, (f"{name}01", f"{name}02"), measure, lambda: None)


@pytest.mark.seen_to_fail("STO-18", "STO-19")
@pytest.mark.parametrize(("job", "word"), [(task041.WRITE, "write"), (task041.READ, "read")])
def test_the_layer_that_slows_down_is_named(
    evidence: Evidence, measure: Measurements, job: task041.FioJob, word: str
) -> None:
    def judge(*rates: float) -> None:
        names = ("disk", "target", "shared", "container")
        chain = Chain([link(name, rate) for name, rate in zip(names, rates, strict=True)])
        check = task041.test_no_layer_slows_writing if word == "write" else task041.test_no_layer_slows_reading
        check(chain, evidence, measure)

    judge(1000, 500, 300, 290)
    with pytest.raises(LimitExceeded, match=rf"^target01, target02: storage\.chain\.target\.{word} is 0\.1 fraction"):
        judge(1000, 100, 100, 100)
    with pytest.raises(LimitExceeded, match=rf"^shared01, shared02: storage\.chain\.shared\.{word} is 0\.2 fraction"):
        judge(1000, 900, 180, 10)
    with pytest.raises(LimitExceeded, match=rf"^container01, .*: storage\.chain\.container\.{word} is 0\.25 fraction"):
        judge(1000, 900, 800, 200)
    table = next(item for item in evidence.items if item.name == f"the chain, {word}").content
    assert "target        500.0 MiB/s    0.50 of the layer below" in table


@pytest.mark.seen_to_fail("STO-18")
def test_a_shared_file_system_is_held_to_what_comes_through_the_network(
    evidence: Evidence, measure: Measurements
) -> None:
    (wire, _), names = network(100, 100), ("disk", "target", "shared", "container")

    def judge(*rates: float) -> None:
        Chain([link(name, rate) for name, rate in zip(names, rates, strict=True)], wire).judge(
            task041.WRITE, evidence, measure
        )

    judge(2000, 1800, 200, 190)  # 400 come through: half of 200 stays
    table = next(item for item in evidence.items if item.name == "the chain, write").content
    assert "network       400.0 MiB/s, before what is shared" in table
    with pytest.raises(LimitExceeded, match=r"^shared01, shared02: storage\.chain\.shared\.write is 0\.25 fraction"):
        judge(2000, 1800, 100, 90)
    with pytest.raises(LimitExceeded, match=r"storage\.chain\.target\.write is 0\.1 fraction"):
        judge(2000, 200, 100, 90)


@pytest.mark.seen_to_fail("STO-18", "STO-19")
@pytest.mark.parametrize(("job", "word"), [(task041.WRITE, "write"), (task041.READ, "read")])
@pytest.mark.parametrize(
    ("layer", "rates"),
    [("target", (10, 500, 400, 390)), ("shared", (10, 9, 450, 440)), ("container", (30, 25, 10, 500))],
)
def test_a_layer_that_is_many_times_as_fast_as_the_one_below_is_no_measurement(
    evidence: Evidence, measure: Measurements, job: task041.FioJob, word: str, layer: str, rates: tuple[float, ...]
) -> None:
    names = ("disk", "target", "shared", "container")
    found = rf"^{layer}01, {layer}02: storage\.chain\.{layer}\.{word} is 50 fraction, above the physical limit of 3 "
    with pytest.raises(InvalidMeasurement, match=found):
        Chain([link(name, rate) for name, rate in zip(names, rates, strict=True)]).judge(job, evidence, measure)


def test_a_layer_is_named_by_its_machines() -> None:
    beegfs = fake_cluster({}, config=beegfs_config())
    bare = Medium(beegfs.controller, "/raw")
    nodes = ("node01", "node02")
    found = layers(Storage(beegfs, bare, bare), Apptainer(beegfs), "image", SCRATCH)
    assert [(layer.name, layer.nodes) for layer in found] == [
        ("disk", ("this host",)),
        ("target", nodes),
        ("shared", nodes),
        ("container", nodes),
    ]
    directory = storage({})
    found = layers(directory, Apptainer(directory.cluster), "image", SCRATCH)
    assert [layer.name for layer in found] == ["disk", "shared", "container"]


def test_a_moment_of_trouble_does_not_make_a_layer_slow(evidence: Evidence, measure: Measurements) -> None:
    Chain([link("disk", 1000), link("shared", 10, 900, 900)]).judge(task041.WRITE, evidence, measure)
