from pathlib import Path

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.drivers.ssh import SshDriver
from pytest_ai_how.errors import HostError, TransportError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport, SshTransport

from .sample import config


def site(tmp_path: Path) -> ClusterConfig:
    for name in ("key", "known_hosts"):
        (tmp_path / name).write_text("")
    ssh = {"key": str(tmp_path / "key"), "known_hosts": str(tmp_path / "known_hosts"), "user": "admin", "port": 2222}
    return config(driver="ssh", ssh=ssh)


def test_site_with_its_files_passes(tmp_path: Path) -> None:
    SshDriver().check(site(tmp_path))


@pytest.mark.parametrize(("missing", "cure"), [("key", "ssh-keygen"), ("known_hosts", "ssh-keyscan 10.99.0.10 10.99")])
def test_missing_file_is_named_with_its_cure(tmp_path: Path, missing: str, cure: str) -> None:
    cluster = site(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(HostError) as caught:
        SshDriver().check(cluster)
    assert caught.value.where == str(tmp_path / missing)
    assert cure in caught.value.cure


def test_transport_is_that_of_the_yaml(tmp_path: Path) -> None:
    transport = SshDriver().transport(site(tmp_path), "node01")
    assert isinstance(transport, SshTransport)
    assert (transport.address, transport.port, transport.user) == ("10.99.0.11", 2222, "admin")
    assert not transport.sudo


def test_commands_become_root_by_sudo_where_the_yaml_says_so(tmp_path: Path) -> None:
    cluster = site(tmp_path)
    cluster = cluster.model_copy(update={"ssh": cluster.ssh.model_copy(update={"sudo": True})})
    transport = SshDriver().transport(cluster, "node01")
    assert isinstance(transport, SshTransport)
    assert transport.sudo


def test_up_makes_nothing_and_the_folder_of_jobs_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = {name: FakeTransport(name, {"true": ""}) for name in ("controller", "node01", "node02")}
    monkeypatch.setattr(SshDriver, "_new", lambda self, config, node: fakes[node])
    journal = Journal(tmp_path / "journal")
    driver = SshDriver()
    assert not driver.contacted
    driver.up(site(tmp_path), journal)
    assert driver.contacted
    assert [[call.argv for call in fake.calls] for fake in fakes.values()] == [[("true",)]] * 3
    # Who contacted a machine leaves the connection to who uses it first.
    assert {name: driver.transport(site(tmp_path), name) for name in fakes} == fakes
    assert not driver.contacted
    assert not any(fake.closed for fake in fakes.values())
    monkeypatch.undo()
    assert isinstance(driver.transport(site(tmp_path), "node01"), SshTransport)
    [jobs] = journal.pending()
    assert jobs.kind == "jobs"
    assert jobs.data["folder"].startswith("/mnt/shared/pytest-ai-how-lab-")
    assert (jobs.data["node"], jobs.data["address"], jobs.data["login"]) == ("controller", "10.99.0.10", "admin")
    assert SshDriver().secrets(site(tmp_path)) == ()


def test_up_names_every_machine_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "controller": "",
        "node01": TransportError("node01", "10.99.0.11 port 2222: no route to host"),
        "node02": Result((), 126),
    }
    fakes = {name: FakeTransport(name, {"true": said}) for name, said in answers.items()}
    monkeypatch.setattr(SshDriver, "_new", lambda self, config, node: fakes[node])
    with pytest.raises(TransportError) as caught:
        SshDriver().up(site(tmp_path), Journal(tmp_path / "journal"))
    assert all(fake.closed for fake in fakes.values())
    assert str(caught.value).splitlines()[0] == (
        "node01: 10.99.0.11 port 2222: no route to host; 2 of 3 machines of lab do not answer:"
    )
    assert "node01: 10.99.0.11 port 2222: no route to host" in caught.value.seen
    assert "node02: `true` exited with 126" in caught.value.seen
