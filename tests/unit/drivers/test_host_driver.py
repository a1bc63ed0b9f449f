"""The host driver: this machine, which stays as it is."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.drivers import host
from pytest_ai_how.drivers.host import MARKED_BY, HostDriver
from pytest_ai_how.drivers.select import choose_driver
from pytest_ai_how.errors import HostError
from pytest_ai_how.lease.journal import Journal
from pytest_ai_how.lease.processes import marked
from pytest_ai_how.lease.scratch import MARK
from pytest_ai_how.lease.undo import undo_all
from pytest_ai_how.lease.undoers import generic_undoers
from pytest_ai_how.transport import LocalTransport

NODE = {"name": "box", "roles": ["controller", "compute"], "address": "127.0.0.1"}


def config(**changes: Any) -> ClusterConfig:
    plain = {"version": 1, "name": "unit-host", "driver": "host", "launcher": "direct", "nodes": [NODE]}
    return ClusterConfig.model_validate({**plain, "storage": {"kind": "none"}, **changes})


def scratch(place: Path) -> ClusterConfig:
    return config(storage={"kind": "scratch", "mount": str(place)})


def test_it_is_what_the_yaml_names() -> None:
    assert isinstance(choose_driver(config()), HostDriver)


def test_a_command_runs_here_as_we_are_and_carries_the_mark() -> None:
    transport = HostDriver().transport(config(), "box")
    assert isinstance(transport, LocalTransport)
    told = transport.execute(("sh", "-c", f"id -u; echo ${MARKED_BY}"), timeout=5)
    assert (told.node, told.stdout.split()) == ("box", [str(os.geteuid()), "pytest-ai-how:unit-host"])


def test_without_a_folder_to_work_in_nothing_is_made(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    HostDriver().up(config(), journal)
    assert [(entry.kind, dict(entry.data)) for entry in journal.pending()] == [
        ("work", {"cookie": "pytest-ai-how:unit-host"})
    ]


def test_the_folder_to_work_in_is_made_and_undone(tmp_path: Path) -> None:
    place, journal = tmp_path.resolve() / "work", Journal(tmp_path / "journal")
    HostDriver().up(scratch(place), journal)
    assert place.stat().st_mode & 0o7777 == 0o700
    assert (place / MARK).read_text() == journal.pending()[-1].data["token"]
    undo_all(journal, generic_undoers("host", tmp_path))
    assert not place.exists()


def test_slurms_jobs_may_write_to_it(tmp_path: Path) -> None:
    place = tmp_path.resolve() / "work"
    HostDriver().up(scratch(place).model_copy(update={"launcher": "slurm"}), Journal(tmp_path / "journal"))
    assert place.stat().st_mode & 0o7777 == 0o1777


def test_what_was_started_and_left_alone_is_ended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    HostDriver().up(config(), journal)
    HostDriver().transport(config(), "box").execute(("setsid", "--fork", "sleep", "300"), timeout=5)
    wait_for(lambda: marked("pytest-ai-how:unit-host"), within=5, what="started")
    undo_all(journal, generic_undoers("host", tmp_path))
    assert marked("pytest-ai-how:unit-host") == ()


def test_a_folder_that_is_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="exists already") as caught:
        HostDriver().check(scratch(tmp_path.resolve()))
    assert caught.value.where == str(tmp_path.resolve())


@pytest.mark.parametrize(
    ("make", "seen"), [(None, "no such file"), ("file", "is no program"), ("folder", "is no program")]
)
def test_an_interpreter_that_is_none_is_refused(tmp_path: Path, make: str | None, seen: str) -> None:
    python = tmp_path / "python"
    if make == "file":
        python.write_text("")
    elif make == "folder":
        python.mkdir()
    with pytest.raises(HostError, match=seen) as caught:
        HostDriver().check(config(python=str(python), containers={"runtime": "none"}))
    assert caught.value.where == str(python)
    assert "that has PyTorch" in caught.value.cure


def test_an_interpreter_that_is_one_passes() -> None:
    HostDriver().check(config(python=sys.executable, containers={"runtime": "none"}))


def test_slurm_must_be_there_to_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    with pytest.raises(HostError, match="scontrol is not installed") as caught:
        HostDriver().check(config(launcher="slurm"))
    assert "launcher: direct" in caught.value.cure


def with_scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> ClusterConfig:
    """A machine whose scontrol is this shell script, and jobs that are ours."""
    program = folder / "scontrol"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    own = pwd.getpwuid(os.geteuid()).pw_name
    return config(launcher="slurm").model_copy(update={"user": own})


def test_the_node_must_have_the_name_that_slurm_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_scontrol(tmp_path, monkeypatch, 'echo "Node $3 not found"; exit 1')
    with pytest.raises(HostError) as caught:
        HostDriver().check(found)
    assert str(caught.value) == (
        "localhost: Slurm knows no node 'box'\n  expected: the node's name as Slurm has it\n"
        "  do: name it under 'nodes' as `scontrol show node` does"
    )


@pytest.mark.parametrize(
    "text",
    [
        "echo NodeName=box",
        "echo 'slurm_load_node error: Unable to contact slurm controller' >&2; exit 1",
        "exec sleep 9",
    ],
)
def test_a_slurm_that_knows_the_node_or_does_not_answer_yet_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(host, "_SLURM_SECONDS", 0.5)
    HostDriver().check(with_scontrol(tmp_path, monkeypatch, text))


def test_jobs_run_as_an_account_that_is_there_and_that_we_can_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = with_scontrol(tmp_path, monkeypatch, "")
    with pytest.raises(HostError) as caught:
        HostDriver().check(found.model_copy(update={"user": "nosuchuser"}))
    assert str(caught.value) == (
        "localhost: there is no account 'nosuchuser', as which jobs are to run\n"
        "  expected: an account that hands in jobs here\n  do: name one under 'user'"
    )
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(HostError) as caught:
        HostDriver().check(found.model_copy(update={"user": "daemon"}))
    assert str(caught.value) == (
        "localhost: 54321 can't hand in jobs as 'daemon'\n  expected: root, or jobs of our own\n"
        "  do: run as root, or say user: 54321"
    )


def test_what_the_machine_lacks_is_absent_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    monkeypatch.setattr(host, "_SYSTEMD", tmp_path / "none")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert HostDriver().facts().absent == {
        "owned": "the machine is not ours",
        "dkms": "dkms is not installed on this machine",
        "systemd": "systemd does not run this machine",
        "root": "we are not root on this machine, and sudo asks for a password",
    }


def test_a_machine_that_has_it_all_lacks_only_that_it_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(host, "_SYSTEMD", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert set(HostDriver().facts().absent) == {"owned"}


@pytest.mark.parametrize(("status", "absent"), [(0, False), (1, True), (None, True)])
def test_who_becomes_root_without_a_password_may_read(
    monkeypatch: pytest.MonkeyPatch, status: int | None, absent: bool
) -> None:
    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert argv == ["sudo", "-n", "true"]
        if status is None:
            raise subprocess.TimeoutExpired(argv, 5)
        return subprocess.CompletedProcess(argv, status)

    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", run)
    assert ("root" in HostDriver().facts().absent) is absent


def test_another_configuration_is_another_fingerprint() -> None:
    assert HostDriver().fingerprint(config()) == HostDriver().fingerprint(config())
    assert HostDriver().fingerprint(config()) != HostDriver().fingerprint(config(absent=["root"]))
    assert HostDriver().secrets(config()) == ()
