"""Every check of TASK-041 goes red on a system that is broken in the way that the check is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.limits import load_limits
from pytest_ai_how.report.culprit import Culprit
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.measurements import InvalidMeasurement, LimitExceeded, Measurements
from pytest_ai_how.services.storage import Medium, Storage
from pytest_ai_how.services.storage.baseline import Baseline
from pytest_ai_how.services.storage.fio import FioReport
from pytest_ai_how.services.storage.medium import Moved
from pytest_ai_how.services.storage.service import confirmed
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from suites.phase6 import test_task041_storage_performance as task041
from tests.fakes import fake_cluster
from tests.unit.services.beegfs.sample import beegfs_config
from tests.unit.suites.task041_fakes import MIB, RAW, fio, network, storage


@pytest.fixture
def baseline(tmp_path: Path) -> Baseline:
    return Baseline(tmp_path / "storage.json", "now")


SCRATCH = "/mnt/shared/.ai-how-x"


def writing(*args: Any, **kwargs: Any) -> task041.Compared:
    return task041.beside_the_medium(storage(*args, **kwargs), SCRATCH, task041.WRITE)


def reading(*args: Any, **kwargs: Any) -> task041.Compared:
    return task041.beside_the_medium(storage(*args, **kwargs), SCRATCH, task041.READ)


def test_a_pass_lasts_as_long_as_the_limits_ask() -> None:
    local, beegfs = load_limits("local"), load_limits("beegfs", emulated=True)
    assert [task041.timed(task041.WRITE, limits).seconds for limits in (local, beegfs)] == [0.7, 4]
    assert task041.timed(task041.CHECKPOINT, beegfs) == task041.CHECKPOINT


def judge_writing(made: Storage, evidence: Evidence, measure: Measurements) -> None:
    """STO-18 of a storage."""
    seen = task041.beside_the_medium(made, SCRATCH, task041.WRITE)
    task041.test_sequential_write(made, seen, SCRATCH, evidence, measure, Culprit(evidence), None)


@pytest.mark.seen_to_fail("STO-18")
def test_a_slow_write_is_red(evidence: Evidence, measure: Measurements) -> None:
    judge_writing(storage({"seq-write": 200}), evidence, measure)
    slow = Measurements(load_limits("local"))
    common = r"no node is to blame more than others: each of node01, node02 fails; \d re-runs"
    with pytest.raises(AssertionError, match=rf"^storage\.seq_write is .*, expected at least 250 MiB/s .*\({common}\)"):
        judge_writing(storage({"seq-write": 20}), evidence, slow)
    assert [(item.metric, item.value) for item in slow.items] == [
        ("storage.raw.seq_write", 500),
        ("storage.possible.seq_write", 500),
        ("storage.seq_write", 40),
    ]
    assert evidence.samples


@pytest.mark.seen_to_fail("STO-18")
def test_the_node_that_keeps_writing_low_is_named(evidence: Evidence, measure: Measurements) -> None:
    made = storage({"seq-write": 310}, raw={"seq-write": 600})
    # What it wrote in a second takes it three to have on the disk, and all are waited for.
    late = {("mkdir",): "", ("fio",): fio({"seq-write": 5}, lasts=3.0)}
    made.cluster["node02"].transport = FakeTransport("node02", late)
    found = r"^node02: fails wherever it takes part; the other node passes without it \(\d re-runs\): "
    with pytest.raises(AssertionError, match=found):
        judge_writing(made, evidence, measure)


@pytest.mark.seen_to_fail("STO-18")
def test_a_limit_for_all_nodes_together_asks_of_some_their_part(evidence: Evidence) -> None:
    figures = Measurements(load_limits("workstation"))
    made = storage({"seq-write": 700}, others={"seq-write": 50}, raw={"seq-write": 1500})
    with pytest.raises(
        AssertionError, match=r"^node02: fails wherever it takes part; .*storage\.seq_write is 100 MiB/s"
    ):
        judge_writing(made, evidence, figures)


@pytest.mark.seen_to_fail("STO-19")
def test_a_slow_read_is_red_and_a_cached_one_invalid(
    evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    task041.test_sequential_read(reading({"seq-read": 450}), evidence, measure, baseline)
    with pytest.raises(LimitExceeded, match=r"storage\.seq_read is 100 MiB/s"):
        task041.test_sequential_read(reading({"seq-read": 50}), evidence, measure, baseline)
    with pytest.raises(InvalidMeasurement, match=r"storage\.seq_read is 10000 MiB/s"):
        task041.test_sequential_read(reading({"seq-read": 5000}), evidence, measure, baseline)


@pytest.mark.seen_to_fail("STO-20")
def test_nodes_that_hinder_each_other_are_red(evidence: Evidence, measure: Measurements) -> None:
    alone = storage({"seq-write": 240})
    task041.test_scaling(alone, writing({"seq-write": 240}), SCRATCH, evidence, measure)
    hindered = writing({"seq-write": 180}, others={"seq-write": 1})
    with pytest.raises(LimitExceeded, match=r"storage\.scaling_efficiency is 0\.3"):
        task041.test_scaling(alone, hindered, SCRATCH, evidence, measure)
    in_turns = writing({"seq-write": 240}, others={"seq-write": 1})
    with pytest.raises(LimitExceeded, match=r"storage\.scaling_efficiency is 0\.5"):
        task041.test_scaling(alone, in_turns, SCRATCH, evidence, measure)
    with pytest.raises(
        InvalidMeasurement, match=r"storage\.scaling_efficiency is 10 fraction, above the physical limit"
    ):
        task041.test_scaling(storage({"seq-write": 24}), writing({"seq-write": 240}), SCRATCH, evidence, measure)


def test_a_node_that_was_disturbed_alone_is_measured_once_more(evidence: Evidence, measure: Measurements) -> None:
    made, rates = storage({"seq-write": 240}), iter([24, 24, 24, 240, 240, 240])

    def disturbed(argv: tuple[str, ...]) -> str:
        return fio({"seq-write": next(rates)})(argv)

    made.cluster["node01"].transport = FakeTransport("node01", {("mkdir",): "", ("fio",): disturbed})
    task041.test_scaling(made, writing({"seq-write": 240}), SCRATCH, evidence, measure)
    assert [(item.metric, item.value) for item in measure.items] == [(task041.SCALING, 1.0)]
    assert next(rates, None) is None


@pytest.mark.seen_to_fail("STO-21")
@pytest.mark.parametrize("engine", ["filecreate", "filestat", "filedelete"])
def test_slow_metadata_is_red(evidence: Evidence, measure: Measurements, engine: str) -> None:
    def metadata(files_per_second: float) -> dict[str, task041.Compared]:
        made = storage({engine: files_per_second})
        return task041.metadata_beside_the_medium(made, SCRATCH, task041.METADATA)

    task041.test_metadata(metadata(RAW[engine] / 2), evidence, measure, engine)
    with pytest.raises(LimitExceeded, match=rf"storage\.metadata\.{engine} is 200 ops/s"):
        task041.test_metadata(metadata(100), evidence, measure, engine)


@pytest.mark.seen_to_fail("STO-22")
@pytest.mark.parametrize("job", [task041.RANDOM_READ, task041.RANDOM_WRITE, task041.SMALL_FILES])
def test_small_io_that_fell_back_is_red(
    evidence: Evidence, measure: Measurements, baseline: Baseline, job: task041.FioJob
) -> None:
    task041.test_small_io(storage({job.name: 1000}), SCRATCH, evidence, measure, baseline, job)
    later = Baseline(baseline.path, "later")
    with pytest.raises(LimitExceeded, match=r"vs_baseline is 0\.4"):
        task041.test_small_io(storage({job.name: 400}), SCRATCH, evidence, measure, later, job)


@pytest.mark.seen_to_fail("STO-23")
def test_a_parallel_file_system_slower_than_one_directory_is_red(evidence: Evidence, measure: Measurements) -> None:
    task041.test_faster_than_one_directory(storage({}), reading({"seq-read": 600}), evidence, measure, None)
    with pytest.raises(LimitExceeded, match=r"^controller: storage\.vs_single_directory is 0\.8"):
        task041.test_faster_than_one_directory(storage({}), reading({"seq-read": 400}), evidence, measure, None)
    with pytest.raises(
        InvalidMeasurement,
        match=r"^controller: storage\.vs_single_directory is 10 fraction, above the physical limit of 3 ",
    ):
        task041.test_faster_than_one_directory(storage({}), reading({"seq-read": 5000}), evidence, measure, None)
    # A directory of one machine comes through one network card.
    task041.test_faster_than_one_directory(storage({}), reading({"seq-read": 400}), evidence, measure, network(500)[0])


@pytest.mark.seen_to_fail("STO-24")
def test_a_regression_is_red(evidence: Evidence, measure: Measurements, baseline: Baseline) -> None:
    Baseline(baseline.path, "before").keep("storage.seq_read.fraction", 0.9)
    task041.test_no_regression(reading({"seq-read": 450}), evidence, measure, baseline)
    with pytest.raises(LimitExceeded, match=r"storage\.regression is 0\.44"):
        task041.test_no_regression(reading({"seq-read": 200}), evidence, measure, baseline)


def test_what_fell_back_does_not_become_the_baseline(
    evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    metric = "storage.seq_read.fraction"
    task041.test_sequential_read(reading({"seq-read": 450}), evidence, measure, Baseline(baseline.path, "first"))
    before = baseline.median(metric)
    for run in range(20):
        later = Baseline(baseline.path, f"later-{run}")
        task041.test_sequential_read(reading({"seq-read": 260}), evidence, measure, later)
        with pytest.raises(LimitExceeded):
            task041.test_no_regression(reading({"seq-read": 200}), evidence, measure, later)
    assert baseline.median(metric) == before


def test_more_than_all_of_the_medium_is_noise_that_no_later_run_is_held_to(
    evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    lucky = reading({"seq-read": 1000})
    assert lucky.reached / lucky.ceiling == 2
    task041.test_sequential_read(lucky, evidence, measure, Baseline(baseline.path, "first"))
    assert baseline.median("storage.seq_read.fraction") == 1
    task041.test_no_regression(reading({"seq-read": 300}), evidence, measure, baseline)


def test_a_burst_in_the_first_run_does_not_keep_all_others_red(
    evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    rates = [1000, 400, 400, 400, 400]
    red = 0
    for number, checkpoint in enumerate(rates):
        one = Baseline(baseline.path, f"run-{number}")
        slow = storage({"checkpoint": checkpoint})
        try:
            task041.test_training_load(slow, SCRATCH, evidence, measure, one, task041.CHECKPOINT)
        except LimitExceeded:
            red += 1
    assert red == 1


def test_a_regression_without_a_baseline_is_no_pass(
    evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    with pytest.raises(AssertionError, match="no figure of an earlier run"):
        task041.test_no_regression(reading({"seq-read": 450}), evidence, measure, baseline)


@pytest.mark.seen_to_fail("STO-25")
def test_figures_from_a_cache_are_found_out(evidence: Evidence) -> None:
    limits = load_limits("local")

    def check(rates: Mapping[str, float], *, device: float | None = 1.0) -> None:
        made = storage(rates, device=device)
        seen = task041.beside_the_medium(made, SCRATCH, task041.READ)
        task041.test_measurement_is_sound(made, seen, SCRATCH, evidence, limits)

    rates = {"seq-read": 450.0, "seq-read cached": 9000.0}
    check(rates)
    with pytest.raises(AssertionError, match=r"^node01: fio claims 450 MiB, .* moved 45 MiB: direct I/O is not"):
        check(rates, device=0.1)
    with pytest.raises(AssertionError, match=r"^node01: fio saw no block device below /mnt/shared"):
        check(rates, device=None)
    # Whatever it claims, a read from memory that neither the devices nor the ceiling tell from a real one is red.
    with pytest.raises(AssertionError, match=r"^node01: a read from memory \(950 MiB/s\) passes"):
        check({"seq-read": 450.0, "seq-read cached": 950.0})


@pytest.mark.seen_to_fail("STO-18", "STO-19")
def test_a_figure_that_the_devices_do_not_confirm_is_red(
    evidence: Evidence, measure: Measurements, baseline: Baseline
) -> None:
    with pytest.raises(AssertionError, match=r"^node01: fio claims 200 MiB, .* moved 20 MiB: the figures come from"):
        judge_writing(storage({"seq-write": 200}, device=0.1), evidence, measure)
    with pytest.raises(AssertionError, match=r"^node01: fio claims 450 MiB, .* moved 45 MiB: the figures come from"):
        task041.test_sequential_read(reading({"seq-read": 450}, device=0.1), evidence, measure, baseline)


@pytest.mark.seen_to_fail("STO-35")
@pytest.mark.parametrize("job", [task041.WRITE, task041.READ])
def test_a_slow_virtiofs_is_red_and_names_the_node(
    evidence: Evidence, measure: Measurements, job: task041.FioJob
) -> None:
    task041.test_virtiofs(storage({job.name: 450}), SCRATCH, evidence, measure, job)
    slow = storage({job.name: 150}, others={job.name: 50}, raw={job.name: 100.0})
    with pytest.raises(LimitExceeded, match=r"^node02: storage\.virtiofs\.seq_\w+ is 50 MiB/s, expected at least 95"):
        task041.test_virtiofs(slow, SCRATCH, evidence, measure, job)
    slower = storage({job.name: 900}, others={job.name: 150}, raw={job.name: 1000.0})
    with pytest.raises(LimitExceeded, match=r"^node02: storage\.virtiofs\.seq_\w+ is 150 MiB/s, expected at least \d+"):
        task041.test_virtiofs(slower, SCRATCH, evidence, measure, job)


@pytest.mark.seen_to_fail("STO-35")
@pytest.mark.parametrize("job", [task041.WRITE, task041.READ])
def test_a_virtiofs_that_is_faster_than_what_is_behind_it_is_no_measurement(
    evidence: Evidence, measure: Measurements, job: task041.FioJob
) -> None:
    fast = storage({job.name: 5000}, raw={job.name: 100.0})
    with pytest.raises(
        InvalidMeasurement, match=r"^node01: storage\.virtiofs\.seq_\w+ is 5000 MiB/s, above the physical"
    ):
        task041.test_virtiofs(fast, SCRATCH, evidence, measure, job)


@pytest.mark.seen_to_fail("STO-35")
@pytest.mark.parametrize("job", [task041.WRITE, task041.READ])
def test_a_virtiofs_that_is_served_from_memory_is_red(
    evidence: Evidence, measure: Measurements, job: task041.FioJob
) -> None:
    with pytest.raises(AssertionError, match=r"^node01: fio claims 450 MiB, but the devices below moved 45 MiB: "):
        task041.test_virtiofs(storage({job.name: 450}, device=0.1), SCRATCH, evidence, measure, job)


def test_what_this_host_serves_is_confirmed_by_its_own_device() -> None:
    """The counters of a device are read before and after, in a machine as on this host."""
    stat = iter(["8 0 2048 1 1 0 0 1 0 1 1\n", "9 0 204800 1 1 0 409600 1 0 1 1\n"])
    asked: list[str] = []

    def counters(argv: tuple[str, ...]) -> str:
        asked.append(argv[-1])
        return next(stat)

    nodes = {
        "controller": {("sh", "-c"): counters},
        "node01": {("mkdir",): "", ("fio",): fio({"seq-write": 150}, device=None)},
    }
    cluster = fake_cluster(nodes)
    served = Storage(cluster, Medium(cluster.controller, "/state/raw", serves=True))
    [(report, _)] = served.fan_out(["node01"], SCRATCH, task041.WRITE).values()
    assert (report.device_read_mib, report.device_write_mib) == (99.0, 200.0)
    assert asked == ["cat /sys/dev/block/$(findmnt --raw --noheadings --output MAJ:MIN --target /state/raw)/stat"] * 2


@pytest.mark.seen_to_fail("STO-36")
@pytest.mark.parametrize("job", [task041.CHECKPOINT, task041.DATA_LOADER])
def test_a_training_load_that_fell_back_is_red(
    evidence: Evidence, measure: Measurements, baseline: Baseline, job: task041.FioJob
) -> None:
    task041.test_training_load(storage({job.name: 400}), SCRATCH, evidence, measure, baseline, job)
    later = Baseline(baseline.path, "later")
    with pytest.raises(LimitExceeded, match=r"vs_baseline is 0\.4"):
        task041.test_training_load(storage({job.name: 160}), SCRATCH, evidence, measure, later, job)


def test_the_devices_below_confirm_what_fio_on_the_nodes_cannot_see() -> None:
    reports = {
        name: (FioReport(name, "fio-3.39", claimed * MIB, 1.0, 1), Result((), 0, node=name))
        for name, claimed in (("node01", 300), ("node02", 100))
    }
    found = confirmed(reports, Moved(10, 10), Moved(30, 410))
    assert [report.device_write_mib for report, _ in found.values()] == [300, 100]
    assert task041.claimed_but_not_moved(found["node01"][0]) == ""
    memory = confirmed(reports, Moved(10, 10), Moved(30, 30))
    assert task041.claimed_but_not_moved(memory["node02"][0]) == (
        "node02: fio claims 100 MiB, but the devices below moved 5 MiB"
    )


def test_scaling_over_three_nodes_is_measured_at_two(evidence: Evidence, measure: Measurements) -> None:
    config = beegfs_config()
    third = config.nodes[2].model_copy(update={"name": "node03", "address": config.nodes[2].address + 1})
    config = config.model_copy(update={"nodes": (*config.nodes, third)})
    answers = {("mkdir",): "", ("rm",): "", ("fio",): fio({"seq-write": 100})}
    alone = Storage(fake_cluster({"*": answers}, config=config))
    whole = task041.Compared(290, 1000, (), ())
    task041.test_scaling(alone, whole, SCRATCH, evidence, measure)
    assert [(item.node, round(item.value, 2)) for item in measure.items] == [
        ("node01, node02", 1.0),
        ("node01, node02, node03", 0.97),
    ]


def test_scaling_needs_two_nodes(no_evidence: Evidence, measure: Measurements) -> None:
    cluster = storage({"seq-write": 240}).cluster
    config = cluster.config.model_copy(update={"nodes": cluster.config.nodes[:2]})
    alone = Storage(fake_cluster({}, config=config))
    with pytest.raises(AssertionError, match="^local: one compute node; scaling needs at least two"):
        task041.test_scaling(alone, writing({"seq-write": 240}), SCRATCH, no_evidence, measure)


def test_the_pair_in_the_middle_counts() -> None:
    made = storage({"seq-write": 200})
    bare = FakeTransport("controller", {("fio",): [fio({"seq-write": rate}) for rate in (4000, 400, 100)]})
    made.cluster.controller.transport = bare
    compared = task041.beside_the_medium(made, SCRATCH, task041.WRITE)
    assert (compared.reached, compared.ceiling) == (400, 400)
    assert all("--numjobs=2" in call.argv and "--directory=/raw" in call.argv for call in bare.calls)
    assert len(compared.results) == 3 * task041.PASSES
