"""Claims on devices: made before the machine starts, seen by every cluster, gone with the machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from pytest_ai_how import pci
from pytest_ai_how.errors import HostError, ProvisionError, RecordError
from pytest_ai_how.lease.lease import JOURNAL, RECORD, Lease
from pytest_ai_how.lease.reap import take_down
from pytest_ai_how.lease.record import read_record, write_record
from pytest_ai_how.pci import Claim, claim, claiming, held, release
from tests.sysfs import build
from tests.unit.pci.samples import AUDIO_1, AUDIO_7, GPU_1, GPU_7, cluster, node

HPC = cluster(node("compute-01", GPU_1, AUDIO_1), node("compute-02", GPU_7, AUDIO_7))
CLOUD = cluster(node("gpu-worker-01", GPU_1, AUDIO_1, auto_start=False), name="cloud")
_, COMPUTE_1, COMPUTE_2 = HPC.nodes
WORKER = CLOUD.nodes[1]

Up = Callable[[str], Lease]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for clusters of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "pytest-ai-how"


def up(name: str) -> Lease:
    """A cluster that this run owns."""
    return Lease.acquire(name, f"run-{name}")


def addresses() -> list[tuple[str, str]]:
    return [(one.address, one.machine) for one in held()]


def test_nothing_is_held_where_nothing_was_claimed(state: Path) -> None:
    assert held() == ()
    with_none = up("hpc")
    assert claim(HPC, HPC.controller, with_none.journal) == ()
    assert held() == ()
    with_none.release()


def test_a_claim_is_seen_until_the_cluster_is_down(state: Path) -> None:
    lease = up("hpc")
    claim(HPC, COMPUTE_1, lease.journal.of("machines"))
    assert held() == (Claim("0000:01:00.0", "hpc", "compute-01"), Claim("0000:01:00.1", "hpc", "compute-01"))
    lease.release()
    assert held() == ()
    assert list(state.iterdir()) == [], "nothing stays behind, no lock either"


def test_what_is_held_already_is_claimed_once() -> None:
    lease = up("hpc")
    assert len(claim(HPC, COMPUTE_1, lease.journal)) == 2
    assert claim(HPC, COMPUTE_1, lease.journal) == ()
    assert len(held()) == 2
    lease.release()


@pytest.mark.parametrize("keep", ["always", "killed"])
def test_the_second_owner_is_refused_and_told_who_the_first_is(keep: str) -> None:
    """Whether the first cluster's run still lives, kept it, or was killed: its machine may be running."""
    first, second = up("hpc"), up("cloud")
    claim(HPC, COMPUTE_1, first.journal)
    if keep == "always":
        first.release(keep="always")
    else:
        first.close()
    with pytest.raises(ProvisionError) as caught:
        claim(CLOUD, WORKER, second.journal)
    assert str(caught.value).splitlines() == [
        "gpu-worker-01: 0000:01:00.0 is in use by machine compute-01 of cluster 'hpc'",
        "  expected: a device that no running machine holds",
        "  do: stop compute-01, or take its cluster down: pytest-ai-how down --cluster hpc",
    ]
    assert second.journal.pending() == []
    assert take_down("hpc", "reap")
    assert len(claim(CLOUD, WORKER, second.journal)) == 2
    second.release()


def test_a_second_owner_in_the_same_cluster_is_refused_too() -> None:
    config = cluster(node("compute-01", GPU_1, AUDIO_1), node("compute-03", GPU_1, AUDIO_1, auto_start=False))
    lease = up("hpc")
    claim(config, config.nodes[1], lease.journal)
    with pytest.raises(ProvisionError, match="compute-03: 0000:01:00.0 is in use by machine compute-01 of cluster"):
        claim(config, config.nodes[2], lease.journal)
    lease.release()


def test_a_claim_follows_its_machine() -> None:
    """Stopped, it frees its devices for another; started again, it is refused until the other is stopped."""
    hpc, cloud = up("hpc"), up("cloud")
    claim(HPC, COMPUTE_1, hpc.journal)
    claim(HPC, COMPUTE_2, hpc.journal)
    release(HPC, COMPUTE_1, hpc.journal)
    assert addresses() == [("0000:07:00.0", "compute-02"), ("0000:07:00.1", "compute-02")]
    release(HPC, COMPUTE_1, hpc.journal)  # nothing held is no error
    claim(CLOUD, WORKER, cloud.journal)
    with pytest.raises(ProvisionError, match="in use by machine gpu-worker-01 of cluster 'cloud'"):
        claim(HPC, COMPUTE_1, hpc.journal)
    release(CLOUD, WORKER, cloud.journal)
    claim(HPC, COMPUTE_1, hpc.journal)
    assert ("0000:01:00.0", "compute-01") in addresses()
    hpc.release()
    cloud.release()


def test_a_start_that_fails_holds_nothing() -> None:
    lease = up("hpc")
    seen: list[int] = []

    def start(error: Exception | None = None) -> None:
        with claiming(HPC, COMPUTE_1, lease.journal):
            seen.append(len(held()))
            if error:
                raise error

    with pytest.raises(OSError, match="no such device"):
        start(OSError("no such device"))
    assert (seen, held()) == ([2], ())
    start()
    with pytest.raises(ProvisionError):
        start(ProvisionError("compute-01", "is running"))
    assert len(held()) == 2, "what it held before the start that failed, it holds"
    lease.release()


def test_claims_of_a_former_boot_are_void() -> None:
    hpc, cloud = up("hpc"), up("cloud")
    claim(HPC, COMPUTE_1, hpc.journal)
    record = read_record(hpc.state / RECORD)
    assert record is not None
    write_record(hpc.state / RECORD, replace(record, boot="0b5e7e1c-0000-4000-8000-000000000000"))
    assert held() == ()
    assert len(claim(CLOUD, WORKER, cloud.journal)) == 2


def test_a_claim_without_a_record_counts() -> None:
    lease = up("hpc")
    claim(HPC, COMPUTE_1, lease.journal)
    (lease.state / RECORD).unlink()
    assert len(held()) == 2


def test_a_journal_that_can_not_be_read_might_hold_any(state: Path) -> None:
    lease = up("hpc")
    (lease.state / JOURNAL).write_text("nonsense\n")
    with pytest.raises(RecordError, match=r"hpc/journal\.jsonl:1"):
        held()
    cloud = up("cloud")
    with pytest.raises(RecordError):
        claim(CLOUD, WORKER, cloud.journal)


def test_of_many_that_claim_at_once_one_gets_the_device(state: Path) -> None:
    """The lock excludes threads of one process as it excludes processes."""
    leases = [up(f"rival-{number}") for number in range(8)]
    configs = [cluster(node("gpu01", GPU_1, AUDIO_1), name=lease.name) for lease in leases]
    barrier = Barrier(len(leases))

    def attempt(number: int) -> int:
        barrier.wait()
        try:
            return len(claim(configs[number], configs[number].nodes[1], leases[number].journal))
        except ProvisionError:
            return 0

    with ThreadPoolExecutor(len(leases)) as pool:
        granted = list(pool.map(attempt, range(len(leases))))
    assert sorted(granted) == [0] * 7 + [2]
    assert len(held()) == 2


def test_a_machine_that_is_off_is_judged_when_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left off, it keeps nothing of the cluster from being made; started, it is told every reason why it can't be."""
    host = build(tmp_path / "tree", "one_gpu").read()
    monkeypatch.setattr(pci, "read_host", lambda: host)
    worker = node("gpu-worker-01", GPU_7, AUDIO_7, auto_start=False)
    cloud = cluster(worker, name="cloud")
    pci.check(cloud)
    assert pci.refusals(cloud) == ()
    assert len(pci.plan_here(cloud).refusals) == 2
    with pytest.raises(HostError, match=r"(?s)gpu-worker-01: 0000:07:00\.0 is not there.*0000:07:00\.1 is not there"):
        pci.check_machine(cloud, worker)
    lease = up("hpc")
    hpc = cluster(node("compute-01", GPU_1, AUDIO_1))
    pci.check_machine(hpc, hpc.nodes[1])
    claim(hpc, hpc.nodes[1], lease.journal)
    rival = node("gpu-worker-02", GPU_1, AUDIO_1, auto_start=False)
    with pytest.raises(HostError, match="in use by machine compute-01 of cluster 'hpc'"):
        pci.check_machine(cluster(rival, name="cloud"), rival)
    pci.check_machine(hpc, hpc.nodes[1])
    lease.release()
