from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers import jobs as module
from pytest_ai_how.drivers.jobs import Jobs, undoer
from pytest_ai_how.errors import LeaseError, TransportError
from pytest_ai_how.lease.jobs import JOBS, jobs_folder, leaves_jobs
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport, LocalTransport, SshTransport

from .sample import config

FOLDER = "/mnt/shared/pytest-ai-how-lab-0123456789ab"
DATA = {"folder": FOLDER, "user": "hpc", "node": "controller"}
OVER_SSH = {"address": "10.9.9.9", "port": "22", "login": "admin", "key": "/k", "known_hosts": "/h", "sudo": "yes"}
THERE, GONE = Result((), 0), Result((), 1)


def site(kind: str = "existing", **changes: object) -> ClusterConfig:
    return config(driver="ssh", storage={"kind": kind, "mount": "/mnt/shared"}, **changes)


def reached(monkeypatch: pytest.MonkeyPatch, *there: Result | Exception) -> FakeTransport:
    """A machine that says, look by look, whether the folder is there."""
    way = FakeTransport("controller", {"test -e": list(there), "rm -rf": ""})
    monkeypatch.setattr(module, "_transport", lambda _: way)
    return way


def test_the_name_is_of_account_host_and_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert jobs_folder(config()) == "/mnt/shared/jobs", "it goes with the machines"
    first = jobs_folder(site())
    assert first.startswith("/mnt/shared/pytest-ai-how-lab-")
    assert first == jobs_folder(site())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    second = jobs_folder(site())
    monkeypatch.setattr("platform.node", lambda: "elsewhere")
    assert len({first, second, jobs_folder(site())}) == 3


def test_a_folder_is_left_where_slurms_jobs_write_to_storage_of_others() -> None:
    assert leaves_jobs(site())
    assert not leaves_jobs(site("none"))
    assert not leaves_jobs(site(slurm=None))
    assert not leaves_jobs(config())


def test_it_is_removed_by_the_job_user(monkeypatch: pytest.MonkeyPatch) -> None:
    way = reached(monkeypatch, THERE, GONE)
    undoer(JOBS).undo(DATA, 9.0)
    assert [(call.argv, call.user) for call in way.calls if call.argv[0] == "rm"] == [
        (("rm", "-rf", "--", FOLDER), "hpc")
    ]
    assert way.closed


def test_what_the_job_user_may_not_remove_who_logs_in_does(monkeypatch: pytest.MonkeyPatch) -> None:
    way = reached(monkeypatch, THERE, THERE)
    Jobs().undo(DATA, 9.0)
    assert [call.user for call in way.calls if call.argv[0] == "rm"] == ["hpc", None]


def test_what_is_not_there_is_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    way = reached(monkeypatch, GONE, GONE)
    Jobs().undo(DATA, 9.0)
    assert not [call for call in way.calls if call.argv[0] == "rm"]


def test_what_remains_is_named_by_machine_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    reached(monkeypatch, THERE)
    assert Jobs().remains(DATA) == [f"controller: folder {FOLDER}"]
    reached(monkeypatch, GONE)
    assert Jobs().remains(DATA) == []
    reached(monkeypatch, TransportError("controller", "refused"))
    with pytest.raises(TransportError):
        Jobs().remains(DATA)


@pytest.mark.parametrize(
    "folder", ["/mnt/shared", "/", "/mnt/pytest-ai-how-lab", "/mnt/../pytest-ai-how-lab-0123456789ab", "jobs"]
)
def test_no_other_folder_is_touched(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    way = reached(monkeypatch, THERE)
    for attempt in (lambda data: Jobs().undo(data, 9.0), Jobs().remains):
        with pytest.raises(LeaseError, match="not touched: it is no folder of jobs of ours"):
            attempt({**DATA, "folder": folder})
    assert way.calls == []


def test_the_way_is_that_of_the_journal() -> None:
    assert isinstance(module._transport(DATA), LocalTransport)
    over = module._transport({**DATA, **OVER_SSH})
    assert isinstance(over, SshTransport)
    assert (over.address, over.user, over.key, over.sudo) == ("10.9.9.9", "admin", Path("/k"), True)
