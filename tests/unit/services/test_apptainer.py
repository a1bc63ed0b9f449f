from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.errors import AiHowError, FileError
from pytest_ai_how.services.apptainer import (
    CONFIG,
    POLICY,
    Apptainer,
    SifObject,
    command,
    parse_build,
    parse_config,
    parse_objects,
    parse_policy,
    parse_version,
    release,
)
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import FakeTransport
from tests.fakes import Script, fake_cluster

DATA = Path(__file__).parents[2] / "data" / "apptainer"
VERSION = (DATA / "1.4.5-version.txt").read_text()
READY: Script = {"sh -c": f"{VERSION}0\n0\n", "apptainer --version": VERSION}


def apptainer(broken: Script | None = None, files: dict[str, bytes] | None = None) -> Apptainer:
    """Apptainer on the cluster of configs/local.yaml, of which the second compute node is ``broken``."""
    scripts = {"*": READY} | ({"node02": broken} if broken else {})
    return Apptainer(fake_cluster(scripts, files=files))


def test_ready_on_all_machines_when_the_job_user_may_use_it() -> None:
    ready = apptainer()
    assert ready.faults() == ()
    transport = ready.cluster["node01"].transport
    assert isinstance(transport, FakeTransport)
    assert [call.user for call in transport.calls] == ["hpc"]


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ("sh: 1: apptainer: not found\n127\n0\n", "`apptainer --version` exited with 127: sh: 1: apptainer: not found"),
        ("singularity 3\n0\n0\n", "`apptainer --version` exited with 0: singularity 3"),
        (
            Result((), 1, stderr="runuser: user hpc does not exist\n"),
            "`apptainer --version` exited with 1: runuser: user hpc does not exist",
        ),
        (f"{VERSION}0\n1\n", "/dev/fuse cannot be opened by hpc; images are mounted by FUSE"),
        (
            Result((), 1, f"{VERSION}0\n0\n", "unshare: unshare failed: No space left on device\n"),
            "hpc cannot make a user namespace: unshare: unshare failed: No space left on device",
        ),
    ],
)
def test_a_machine_that_lacks_something_is_named(told: str | Result, fault: str) -> None:
    assert apptainer({"sh -c": told}).faults() == (f"node02: {fault}",)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ("", ""),
        ("apptainer", "`apptainer --version` exited with 3: no such program"),
        ("test", "/dev/fuse cannot be opened by hpc"),
        ("unshare", "hpc cannot make a user namespace: no such program"),
    ],
)
def test_a_shell_is_asked_for_all_of_it_at_once(tmp_path: Path, broken: str, fault: str) -> None:
    """The same words, run by a real shell in which one program after the other does not work."""
    said = {"apptainer": f"printf '%s' '{VERSION}'", "test": "true", "unshare": "true"}
    for name, text in said.items():
        wrong = "echo no such program >&2; exit 3" if name == broken else text
        (tmp_path / name).write_text(f"#!/bin/sh\n{wrong}\n")
        (tmp_path / name).chmod(0o755)

    def run(argv: tuple[str, ...]) -> Result:
        # A shell has its own test; here it is to be ours.
        text = argv[2].replace("test -w", f"{tmp_path}/test -w")
        done = subprocess.run(
            ["/bin/sh", "-c", text], check=False, env={"PATH": str(tmp_path)}, capture_output=True, text=True
        )
        return Result(argv, done.returncode, done.stdout, done.stderr)

    found = apptainer({"sh -c": run}).faults()
    assert len(found) == bool(fault)
    assert all(one.startswith(f"node02: {fault}") for one in found)


def test_a_version_is_compared_by_its_numbers() -> None:
    assert parse_version("apptainer version 1.4.5-2+deb13\n") == "1.4.5-2+deb13"
    assert parse_version("WARNING: x\n") == ""
    assert release("1.10.0") > release("1.9.3-1") > release("1.9")
    with pytest.raises(ValueError, match="'next' is not a version"):
        release("next")


def test_options_become_words_that_apptainer_reads_as_given() -> None:
    words = command(
        "exec",
        "a b.sif",
        "sh",
        "-c",
        "x",
        binds=["/a:/b:ro"],
        env={"A": 'x="1",2', "B": "1,2"},
        flags=["pid"],
        cwd="/b",
    )
    assert words == (
        *("apptainer", "exec", "--pid", "--bind=/a:/b:ro", '--env="A=x=""1"",2"', "--env=B=1,2", "--cwd=/b"),
        *("a b.sif", "sh", "-c", "x"),
    )
    assert command("run", "a.sif") == ("apptainer", "run", "a.sif")


def test_containers_run_as_the_job_user_and_a_failure_is_a_result() -> None:
    cluster = fake_cluster({"node01": {"apptainer exec": Result((), 7), "apptainer run": "ran\n"}})
    there, node = Apptainer(cluster), cluster["node01"]
    assert there.exec(node, "a.sif", "false", timeout=3).returncode == 7
    assert there.run(node, "a.sif").stdout == "ran\n"
    assert isinstance(node.transport, FakeTransport)
    assert [(call.user, call.timeout) for call in node.transport.calls] == [("hpc", 3), ("hpc", 60)]


def test_what_the_program_was_built_with() -> None:
    build = parse_build((DATA / "1.4.5-buildcfg.txt").read_text())
    assert (build["APPTAINER_SUID_INSTALL"], build["LIBEXECDIR"]) == ("0", "/usr/lib/x86_64-linux-gnu")
    assert parse_build("FATAL: unknown command\n") == {}


def test_the_configuration_is_read_from_the_machine() -> None:
    there = apptainer(files={CONFIG: b"allow setuid = no\n"})
    node = there.cluster["node01"]
    assert there.config(node) == {"allow setuid": ("no",)}
    with pytest.raises(FileError, match=rf"^node01: {CONFIG} could not be read"):
        apptainer().config(apptainer().cluster["node01"])


def test_a_directive_without_a_value_is_named_by_its_line() -> None:
    with pytest.raises(AiHowError, match=rf"^node01: {CONFIG}:2: 'allow setuid'\n  expected: directive = value"):
        parse_config("# first\nallow setuid\n", "node01")
    assert parse_config("bind path = /a=b\n", "node01") == {"bind path": ("/a=b",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("activated = ", "is not TOML"),
        ("activated = 'yes'", "does not say whether it is activated"),
        (
            "activated = true\n[[execgroup]]\ntagname = 'g'\nmode = 'whitelist'\nkeyfp = []",
            "group 'g' has mode .* 0 keys",
        ),
        ("activated = true\n[[execgroup]]\ntagname = 'g'\nkeyfp = ['1']", "group 'g' has mode None and 1 keys"),
    ],
)
def test_a_policy_that_apptainer_would_refuse(text: str, message: str) -> None:
    with pytest.raises(AiHowError, match=rf"^node01: {POLICY}.*{message}"):
        parse_policy(text, "node01")
    group = "activated = true\n[[execgroup]]\nmode = 'whitestrict'\nkeyfp = ['1']"
    assert parse_policy(group, "node01")["activated"] is True


def test_the_objects_of_an_image() -> None:
    found = parse_objects((DATA / "1.4.5-sif-list.txt").read_text())
    assert [each.id for each in found] == [1, 2, 3]
    assert found[2] == SifObject(3, 36864, 55697408, "FS (Squashfs/*System/amd64)")
    assert [(each.is_system, each.architecture) for each in found] == [(False, ""), (False, ""), (True, "amd64")]
    assert parse_objects("FATAL: x\n") == ()


def test_an_image_that_is_no_image_has_no_objects() -> None:
    cluster = fake_cluster({"node01": {"apptainer sif list": Result((), 255, stderr="FATAL: x\n")}})
    found, told = Apptainer(cluster).objects(cluster["node01"], "a.sif")
    assert (found, told.stderr) == ((), "FATAL: x\n")


def test_without_a_shared_file_system_nobody_waits_for_one() -> None:
    config = load_config("local")
    bare = config.model_copy(update={"storage": config.storage.model_copy(update={"kind": "none"})})
    assert apptainer().needs == ("storage",)
    assert Apptainer(fake_cluster({}, config=bare)).needs == ()
