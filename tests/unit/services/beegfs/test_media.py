"""What lies below BeeGFS is measured on the targets' own file systems, all at once."""

from __future__ import annotations

import json

from pytest_ai_how.services.beegfs.media import TargetMedia
from pytest_ai_how.services.storage.fio import FioJob, MetadataJob
from pytest_ai_how.services.storage.medium import Moved

from .sample import DATA, beegfs

FIO = DATA.parent / "storage"
CONF = {"/etc/beegfs/beegfs-storage.conf": b"storeStorageDirectory = /data/beegfs/storage\n"}
STATISTICS = "  312  12  4096  90  870  550  20480  1200  0  900  1300  0 0 0 0 0 0\n"


def media() -> TargetMedia:
    answers = [
        (("mkdir",), ""),
        (("rm",), ""),
        (("fio", "--name=seq-read"), (FIO / "fio-3.39-seq-read.json").read_text()),
        (("fio",), (FIO / "fio-3.39-filecreate.json").read_text()),
        (("sh", "-c"), STATISTICS),
    ]
    made = beegfs({"*": answers})
    for node in made.cluster.nodes:
        node.transport.files.update(CONF)  # type: ignore[attr-defined]  # a FakeTransport
    return TargetMedia(made)


def test_all_targets_are_used_at_once_and_add_up() -> None:
    found = media()
    report, result = found.measure(FioJob("seq-read", found.directory, rw="read", jobs=2))
    one = json.loads((FIO / "fio-3.39-seq-read.json").read_text())["jobs"][0]["read"]
    assert (report.node, report.bytes) == ("node01, node02", 2 * one["io_bytes"])
    assert "--numjobs=1" in result.argv
    assert "--directory=/data/beegfs/storage/.ai-how-raw" in result.argv
    assert result.stdout.count("node01$ fio") == result.stdout.count("node02$ fio") == 1


def test_metadata_is_measured_where_it_is_kept() -> None:
    found = media()
    reports, result = found.measure_metadata(MetadataJob(found.directory))
    assert result.node == "controller"
    assert reports


def test_what_the_devices_moved_is_added_up_over_the_targets() -> None:
    assert media().moved() == Moved(read=4.0, written=20.0)


def test_what_was_measured_is_removed() -> None:
    found = media()
    found.cool()
    found.clear()
    nodes = found._beegfs.cluster.nodes
    calls = [(node.name, " ".join(call.argv)) for node in nodes for call in node.transport.calls]  # type: ignore[attr-defined]  # a FakeTransport
    assert ("node02", "rm -rf -- /data/beegfs/storage/.ai-how-raw") in calls
    assert ("controller", "rm -rf -- /var/tmp/.ai-how-raw") in calls
    assert [name for name, words in calls if "drop_caches" in words] == ["controller", "node01", "node02"]
