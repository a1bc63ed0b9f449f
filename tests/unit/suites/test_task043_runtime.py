"""The checks of the container runtime go red for the right reason, and green on nodes that are in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import CommandTimeout, FactError
from pytest_ai_how.facts import Fact, Readings
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.apptainer import CONFIG, POLICY, Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.shell import Result
from suites.phase1._facts import PACKAGES
from suites.phase6 import _facts as read
from suites.phase6 import test_task043_runtime as checks
from tests.unit.suites.task042_fakes import Rules
from tests.unit.suites.task043_fakes import facts, failed, installed, machines, runs, said, transport, with_file

BUILT = said("buildcfg.txt")
NO_FILE = Result((), 1, stderr="cat: x: No such file or directory")
STARTER = "/usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid"


def changed(key: str, value: object, *words: str, node: str = "node02") -> dict[str, Rules]:
    """A node whose containers tell another value, if their command has all of ``words``."""

    def edit(found: dict[str, Any], argv: tuple[str, ...]) -> None:
        if set(words) <= set(argv):
            kept = found[key]
            found[key] = {**kept, **value} if isinstance(value, dict) and isinstance(kept, dict) else value

    return {node: [(runs("container-facts.py"), facts(node, edit))]}


def reading(evidence: Evidence, changes: Mapping[Fact[Any], str | Result], node: str = "node02") -> Facts:
    """What nodes in order tell, and one that tells something else."""
    files = transport(machines(), "node01").files
    well: dict[Fact[Any], str | Result] = {
        read.VERSION: said("version.txt"),
        read.BUILD: BUILT,
        PACKAGES: installed(),
        read.CONFIG_TEXT: files[CONFIG].decode(),
        read.POLICY_TEXT: files[POLICY].decode(),
        read.SET_UID: "",
    }
    told = {name: well | (changes if name == node else {}) for name in ("controller", "node01", "node02")}
    return Facts(Readings.told(told), evidence)


@pytest.mark.seen_to_fail("CON-01")
@pytest.mark.parametrize(
    ("fact", "told", "message"),
    [
        (read.VERSION, Result((), 127, "sh: 1: apptainer: not found"), r"`apptainer --version` says 'sh: .*not found"),
        (read.VERSION, "apptainer version 1.4.1\n", "Apptainer is 1.4.1, expected 1.4.2 or later"),
        (read.VERSION, "apptainer version 1.5.0\n", "version 1.5.0 differs from controller's 1.4.5"),
        (PACKAGES, "apptainer\t1\tinstalled\nfuse3\t1\tconfig-files\n", "package squashfuse is not installed"),
        (PACKAGES, installed(squashfuse="2-1"), "packages .* differs from controller's"),
        (read.BUILD, Result((), 255, "unknown command"), "`apptainer buildcfg` says nothing of it: 'unknown command'"),
        (read.BUILD, BUILT.replace("SUID_INSTALL=0", "SUID_INSTALL=1"), "buildcfg .* differs from"),
    ],
)
def test_an_apptainer_that_is_old_incomplete_or_different(
    evidence: Evidence, fact: Fact[Any], told: str | Result, message: str
) -> None:
    there = Apptainer(machines())
    checks.test_version_and_dependencies(there, reading(evidence, {}))
    with pytest.raises(AssertionError, match=rf"^node02: {message}"):
        checks.test_version_and_dependencies(there, reading(evidence, {fact: told}))


def test_other_packages_than_apptainers_may_differ(evidence: Evidence) -> None:
    more = installed() + "slurm-wlm\t24.11.5\tinstalled\n"
    checks.test_version_and_dependencies(Apptainer(machines()), reading(evidence, {PACKAGES: more}))


def configured(**changes: str) -> str:
    text = transport(machines(), "node01").files[CONFIG].decode()
    for before, after in changes.items():
        line = before.replace("_", " ")
        assert line in text
        text = text.replace(line, after)
    return text


@pytest.mark.seen_to_fail("CON-02")
@pytest.mark.parametrize(
    ("fact", "content", "message"),
    [
        (read.CONFIG_TEXT, configured(allow_setuid_="allow setuid = yes\n# "), r".*'allow setuid' is yes; expected no"),
        (
            read.CONFIG_TEXT,
            configured(allow_setuid_="# "),
            r".*'allow setuid' is not set, which means yes; expected no",
        ),
        (read.CONFIG_TEXT, configured(mount_hostfs_="mount hostfs = yes\n# "), r".*'mount hostfs' is yes; expected no"),
        (read.CONFIG_TEXT, "allow setuid no\n", r"/etc/apptainer/apptainer.conf:1: 'allow setuid no'"),
        (read.CONFIG_TEXT, NO_FILE, r"/etc/apptainer/apptainer.conf is not known: `cat .*` exited with 1: .*No such"),
        (read.POLICY_TEXT, NO_FILE, r"/etc/apptainer/ecl.toml is not known: `cat .*` exited with 1: .*No such file"),
        (read.POLICY_TEXT, "activated = maybe\n", r"/etc/apptainer/ecl.toml is not TOML"),
        (read.POLICY_TEXT, "", r"/etc/apptainer/ecl.toml does not say whether it is activated"),
        (
            read.POLICY_TEXT,
            "activated = true\n[[execgroup]]\nmode = 'open'\nkeyfp = ['1']\n",
            r".* has mode 'open' and 1 keys",
        ),
        (read.SET_UID, f"{STARTER}\n", rf"{STARTER} is set-uid; expected no set-uid program of Apptainer"),
        (
            read.SET_UID,
            Result((), 1, f"{STARTER}\nfind: '/usr/libexec/apptainer': No such file or directory\n"),
            r"the programs of Apptainer could not be searched: find: .*No such file",
        ),
    ],
)
def test_a_configuration_that_is_open(evidence: Evidence, fact: Fact[Any], content: str | Result, message: str) -> None:
    there = Apptainer(machines())
    checks.test_security_configuration(there, reading(evidence, {}))
    with pytest.raises(AssertionError, match=rf"^node02: {message}"):
        checks.test_security_configuration(there, reading(evidence, {fact: content}))


def test_set_uid_programs_are_found_where_apptainer_lies(tmp_path: Path) -> None:
    """What runs on a machine, with an apptainer that tells of places here."""
    program, starter = tmp_path / "bin/apptainer", tmp_path / "lib/apptainer/bin/starter"
    for path in (program, starter):
        path.parent.mkdir(parents=True)
        path.touch()
    program.write_text(f"#!/bin/sh\necho BINDIR={tmp_path}/bin\necho LIBEXECDIR={tmp_path}/lib\n")
    program.chmod(0o755)

    def look() -> Result:
        environ = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        done = subprocess.run(read.SET_UID.argv, env=environ, capture_output=True, text=True, check=False)
        return Result(read.SET_UID.argv, done.returncode, done.stdout, done.stderr, node="node01")

    assert read.SET_UID.of(look()) == []
    starter.chmod(0o4755)
    assert read.SET_UID.of(look()) == [str(starter)]
    shutil.rmtree(tmp_path / "lib")
    [said] = read.SET_UID.of(look())
    assert re.match(r"find: .*lib/apptainer.*: No such file", said)
    (tmp_path / "bin/find").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "bin/find").chmod(0o755)
    with pytest.raises(FactError, match=r"^node01: set-uid programs of Apptainer is not known: "):
        read.SET_UID.of(look())


def exec_and_run(cluster: Cluster, evidence: Evidence) -> None:
    checks.test_exec_run_binds_tmp_home(Apptainer(cluster), Registry(cluster), evidence, "r1")


@pytest.mark.seen_to_fail("CON-04")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (changed("writes", {"/data/ro": "OK"}), r"writing inside gave .*'/data/ro': 'OK'"),
        (changed("writes", {"/data/rw": "EROFS"}), r"writing inside gave \{'/data/rw': 'EROFS'"),
        (changed("witnesses", {"/home/hpc/ai-how-r1": None}), r"inside, the files put there read"),
        (changed("witnesses", {"/tmp/ai-how-r1/shared": "host"}, "--contain"), r"with --contain the node's files are"),
        ({"node02": [(("stat", "--format=%U %s"), "root 14\n")]}, r"/tmp/ai-how-r1/rw/.* is 'root 14' outside"),
        ({"node02": [(("stat", "--format=%U %s"), failed("No such file", 1))]}, r".* is '' outside \(No such file\)"),
        ({"node02": [("apptainer run", "")]}, r"`apptainer run` ended with 0 and '', expected 0 and '42'"),
        ({"node02": [("apptainer run", failed("FATAL: x"))]}, r"`apptainer run` ended with 255 .*FATAL: x"),
        ({"node02": [(runs("container-facts.py"), failed("FATAL: x"))]}, r"env --chdir=/ .* ended with 255: FATAL"),
        ({"node02": [(runs("container-facts.py"), "WARNING")]}, r".* printed 'WARNING', expected what the payload"),
    ],
)  # fmt: skip
def test_a_container_that_does_not_see_what_it_is_given(
    evidence: Evidence, broken: dict[str, Rules], message: str
) -> None:
    exec_and_run(machines(), evidence)
    cluster = machines(broken)
    with pytest.raises(AssertionError, match=rf"^node02: {message}"):
        exec_and_run(cluster, evidence)
    assert transport(cluster, "node02").calls[-1].argv[:2] == ("rm", "-rf") or "apptainer run" in message


def test_a_node_that_hangs_is_not_the_checks_failure(evidence: Evidence) -> None:
    evidence.attach("a node that hangs", "tells nothing")
    hanging = CommandTimeout(Result(("apptainer",), -9, node="node02"), 60)
    with pytest.raises(CommandTimeout, match="^node02: "):
        exec_and_run(machines({"node02": [(runs("container-facts.py"), hanging)]}), evidence)


@pytest.mark.seen_to_fail("CON-06")
@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"user": "user:[4026531837]"}, (), r"without options, a container shares the user namespace"),
        ({"mnt": "mnt:[4026532487]"}, (), r"without options, a container shares the mnt namespace"),
        ({"net": "net:[7]"}, (), r"without options, a container has its own net namespace"),
        ({"pid": "pid:[4026532490]"}, ("--pid",), r"with --pid --ipc, a container shares the pid namespace"),
        ({"ipc": "ipc:[4026532489]"}, ("--ipc",), r"with --pid --ipc, a container shares the ipc namespace"),
    ],
)
def test_namespaces_that_are_not_as_configured(
    evidence: Evidence, changes: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    right = machines()
    checks.test_namespaces(Apptainer(right), Registry(right), evidence)
    wrong = machines(changed("namespaces", changes, *words))
    with pytest.raises(AssertionError, match=rf"^node02: {message}"):
        checks.test_namespaces(Apptainer(wrong), Registry(wrong), evidence)


@pytest.mark.seen_to_fail("CON-06")
def test_a_namespace_that_is_forbidden_and_made_all_the_same(evidence: Evidence) -> None:
    forbidden = with_file(machines(), "node01", CONFIG, configured(allow_pid_ns_="allow pid ns = no\n# "))
    with pytest.raises(AssertionError, match=r"^node01: with --pid --ipc, a container has its own pid namespace"):
        checks.test_namespaces(Apptainer(forbidden), Registry(forbidden), evidence)


@pytest.mark.seen_to_fail("CON-20")
@pytest.mark.parametrize(
    ("key", "value", "words", "message"),
    [
        ("values", {"AI_HOW_SECRET": "kept-out"}, ("--cleanenv",), r"with --cleanenv, a container has .*'kept-out'"),
        ("values", {"AI_HOW_GIVEN": ""}, ("--containall",), r"with --containall, a container has .*'AI_HOW_GIVEN': ''"),
        ("names", ["AI_HOW_SECRET"], ("--containall",), r"with --containall a container sees AI_HOW_SECRET in names"),
        ("others", ["AI_HOW_SECRET"], ("--containall",), r"with --containall a container sees AI_HOW_SECRET in others"),
        (
            "witnesses",
            {"/home/hpc/ai-how-env-r1": "host"},
            ("--containall",),
            r".* sees /home/hpc/ai-how-env-r1/witness",
        ),
    ],
)
def test_an_environment_that_leaks_or_is_lost(
    evidence: Evidence, key: str, value: object, words: tuple[str, ...], message: str
) -> None:
    right = machines()
    checks.test_environment(Apptainer(right), Registry(right), evidence, "r1")
    wrong = machines(changed(key, value, *words))
    with pytest.raises(AssertionError, match=rf"^node02: {message}"):
        checks.test_environment(Apptainer(wrong), Registry(wrong), evidence, "r1")


@pytest.mark.seen_to_fail("CON-24")
@pytest.mark.parametrize(
    ("key", "value", "words", "message"),
    [
        ("interpreter", "/usr/bin/python3", (), r"in base, exec runs /usr/bin/python3 of /venv"),
        ("prefix", "/usr", ("PATH=/usr/bin:/bin",), r"in base, exec with another PATH runs /venv/bin/python3 of /usr"),
        ("numpy", None, ("--cleanenv",), r"in base, exec --cleanenv: the interpreter has no numpy"),
    ],
)
def test_an_interpreter_that_is_not_the_environments(
    evidence: Evidence, key: str, value: object, words: tuple[str, ...], message: str
) -> None:
    right = machines()
    checks.test_interpreter_under_exec(Apptainer(right), Registry(right), evidence)
    wrong = machines(changed(key, value, *words, node="node01"))
    with pytest.raises(AssertionError, match=rf"^node01: {message}"):
        checks.test_interpreter_under_exec(Apptainer(wrong), Registry(wrong), evidence)


@pytest.mark.seen_to_fail("CON-24")
def test_a_registry_without_pytorch(evidence: Evidence) -> None:
    evidence.attach("catalogue", "without pytorch")
    catalog = json.dumps({"images": [{"name": "base", "file": "b.sif", "digest": "sha256:0", "size": 1}]})
    cluster = with_file(machines(), "controller", "/mnt/shared/containers/.registry/catalog.yaml", catalog)
    with pytest.raises(AssertionError, match=r"^controller: .* lists \['base'\], not pytorch"):
        checks.test_interpreter_under_exec(Apptainer(cluster), Registry(cluster), evidence)
