"""What fio is asked, and what is read from its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.errors import AiHowError
from pytest_ai_how.services.storage.fio import (
    METADATA_ENGINES,
    FioJob,
    FioReport,
    MetadataJob,
    aggregate_mib_per_second,
    parse_report,
)
from pytest_ai_how.shell import Result

DATA = Path(__file__).parents[2] / "data" / "storage"


def captured(name: str, **job: Any) -> Result:
    report = json.loads((DATA / f"fio-3.39-{name}.json").read_text())
    report["jobs"][0] |= job
    return Result(("fio",), 0, json.dumps(report), node="node01")


def test_a_write_is_incompressible_direct_and_synced() -> None:
    argv = FioJob("w", "/mnt/shared/x", rw="write", seconds=1.5).argv()
    assert {"--refill_buffers", "--direct=1", "--end_fsync=1", "--time_based", "--runtime=1500ms"} <= set(argv)


def test_metadata_engines_follow_each_other_over_the_same_files() -> None:
    argv = MetadataJob("/mnt/shared/x", files=100, jobs=2).argv()
    assert [word for word in argv if word.startswith("--name=")] == [f"--name={one}" for one in METADATA_ENGINES]
    assert argv.count("--stonewall") == 3
    assert {"--numjobs=2", "--nrfiles=100"} <= set(argv)


def test_report_of_a_read() -> None:
    report = parse_report(captured("seq-read"))
    assert (report.node, report.version, report.bytes, report.seconds) == ("node01", "fio-3.39", 2**28, 0.268)
    assert report.mib_per_second == pytest.approx(955.2, abs=0.1)
    assert report.device_read_mib == pytest.approx(248344 * 512 / 2**20)
    assert report.started == 1795448912.421


def test_report_of_a_metadata_run() -> None:
    report = parse_report(captured("filecreate"))
    assert report.operations_per_second == pytest.approx(2000 / 0.065)
    assert report.device_read_mib is None


def test_notices_before_the_report_are_passed_over() -> None:
    noisy = captured("seq-write")
    assert parse_report(Result(("fio",), 0, "fio: a notice\n" + noisy.stdout)).bytes == 2**28


NOTHING = {"total_ios": 0, "runtime": 0, "io_bytes": 0}


def said(status: int, stdout: str, stderr: str = "") -> Result:
    return Result(("fio",), status, stdout, stderr, node="node01")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (said(1, "", "fio: not found"), "node01: `fio` gave no report (exit status 1): fio: not found"),
        (said(0, ""), "node01: `fio` gave no report (exit status 0): no output"),
        (said(0, "{truncated"), "node01: `fio` gave no report (exit status 0): {truncated"),
        (said(0, "{}"), "node01: `fio` gave no report (exit status 0): {}"),
        (captured("seq-read", error=28), "node01: fio w failed with error 28: no reason given"),
        (captured("seq-read", read=NOTHING), "node01: fio w measured nothing: no operation completed"),
    ],
)
def test_nothing_measured_is_an_error(result: Result, message: str) -> None:
    with pytest.raises(AiHowError) as raised:
        parse_report(result)
    assert str(raised.value) == message


def test_nodes_that_did_not_run_at_once_are_not_added_up() -> None:
    one = FioReport("node01", "fio-3.39", bytes=100 * 2**20, seconds=1, operations=100, started=1000)
    late = FioReport("node02", "fio-3.39", bytes=100 * 2**20, seconds=1, operations=100, started=1001)
    assert aggregate_mib_per_second([one, late]) == 100
    with pytest.raises(AiHowError, match="no node reported anything"):
        aggregate_mib_per_second([])
