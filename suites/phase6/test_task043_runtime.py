"""TASK-043: the container runtime on every node: what is installed, how it is configured, what a container sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts
from pytest_ai_how.services.apptainer import (
    CONFIG,
    Apptainer,
    parse_build,
    parse_config,
    parse_policy,
    parse_version,
    release,
)
from pytest_ai_how.services.registry import Registry

from ..phase1._facts import PACKAGES
from ._containers import declared, inside, judged, on_each, python
from ._facts import BUILD, CONFIG_TEXT, POLICY_TEXT, SET_UID, VERSION

pytestmark = pytest.mark.requires("apptainer")

#: What apptainer.conf must say, and what Apptainer 1.4 assumes where it says nothing.
SECURE = {"allow setuid": ("no", "yes"), "mount hostfs": ("no", "no")}
#: Namespaces that a container without a set-uid starter always has of its own, and those that it has on demand.
ALWAYS, ON_DEMAND = ("user", "mnt"), ("pid", "ipc")


@pytest.mark.check("CON-01")
@pytest.mark.reads(VERSION, BUILD, PACKAGES)
def test_version_and_dependencies(apptainer: Apptainer, facts: Facts) -> None:
    """All nodes have one version of Apptainer, not below the declared one, built alike, with all that it needs."""
    lowest, packages = declared()
    names = apptainer.cluster.all.names
    versions, built, all_packages = facts(VERSION, names), facts(BUILD, names), facts(PACKAGES, names)
    found: dict[str, tuple[object, ...]] = {}
    for name in names:
        version, build = parse_version(versions[name]), parse_build(built[name])
        installed = {one: all_packages[name][one] for one in packages if one in all_packages[name]}
        assert version, f"{name}: `apptainer --version` says {versions[name]!r}"
        assert release(version) >= release(lowest), f"{name}: Apptainer is {version}, expected {lowest} or later"
        missing = [one for one in packages if one not in installed]
        assert not missing, f"{name}: package {missing[0]} is not installed; Apptainer needs {', '.join(packages)}"
        assert build, f"{name}: `apptainer buildcfg` says nothing of it: {built[name]!r}"
        found[name] = (version, installed, build)
    first = next(iter(found))
    for name, told in found.items():
        for what, mine, other in zip(("version", "packages", "buildcfg"), told, found[first], strict=True):
            assert mine == other, f"{name}: {what} {mine} differs from {first}'s {other}; expected one on all nodes"


@pytest.mark.check("CON-02")
@pytest.mark.reads(CONFIG_TEXT, POLICY_TEXT, SET_UID)
def test_security_configuration(apptainer: Apptainer, facts: Facts) -> None:
    """No set-uid program on disk nor allowed, the host's file systems stay out, the policy file is there and parses."""
    names = apptainer.cluster.all.names
    with judged():
        configs = {name: parse_config(text, name) for name, text in facts(CONFIG_TEXT, names).items()}
        for name, text in facts(POLICY_TEXT, names).items():
            parse_policy(text, name)
        set_uid = facts(SET_UID, names)
    for name, config in configs.items():
        for directive, (wanted, default) in SECURE.items():
            said = config.get(directive, (f"not set, which means {default}",))[-1]
            assert said == wanted, f"{name}: {CONFIG}: '{directive}' is {said}; expected {wanted}"
        privileged = set_uid[name]
        unread = [line for line in privileged if not line.startswith("/")]
        assert not unread, f"{name}: the programs of Apptainer could not be searched: {unread[0]}"
        assert not privileged, f"{name}: {privileged[0]} is set-uid; expected no set-uid program of Apptainer"


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of the job user on a node, each with a file ``witness`` that says 'host'."""

    read_write: str
    read_only: str
    temporary: str
    home: str


@contextmanager
def places(node: Node, user: str, name: str) -> Iterator[Places]:
    """Make folders in the node's /tmp and in the job user's home for the time of the block."""
    home = node.run("getent", "passwd", user).stdout.split(":")[5]
    top = f"/tmp/{name}"  # noqa: S108  the node's /tmp is what is looked for inside
    made = Places(f"{top}/rw", f"{top}/ro", f"{top}/shared", f"{home}/{name}")
    folders = (made.read_write, made.read_only, made.temporary, made.home)
    try:
        node.run("mkdir", "-p", *folders, user=user)
        node.run("tee", *(f"{folder}/witness" for folder in folders), input="host", user=user)
        yield made
    finally:
        node.run("rm", "-rf", "--", top, made.home, user=user)


@pytest.mark.check("CON-04")
def test_exec_run_binds_tmp_home(apptainer: Apptainer, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """Exec and run work; a bound folder is written when bound so and not when ro; /tmp and home are the job user's."""
    image = registry.path("base")

    def look(node: Node) -> None:
        with places(node, apptainer.user, f"ai-how-{run_id}") as there:
            folders = ("/data/rw", "/data/ro", there.temporary, there.home)
            binds = (f"{there.read_write}:/data/rw", f"{there.read_only}:/data/ro:ro")
            # Apptainer binds the current folder too: from home, the home would be seen even if it were not mounted.
            call = ("env", "--chdir=/", *python(image, "container-facts.py", *folders, binds=binds))
            seen = inside(apptainer, node, evidence, call)
            expected = dict(zip(folders, ("OK", "EROFS", "OK", "OK"), strict=True))
            assert seen["witnesses"] == dict.fromkeys(folders, "host"), (
                f"{node.name}: inside, the files put there read {seen['witnesses']}; expected 'host' from each"
            )
            assert seen["writes"] == expected, f"{node.name}: writing inside gave {seen['writes']}; expected {expected}"
            for folder in (there.read_write, there.temporary, there.home):
                written = node.run("stat", "--format=%U %s", f"{folder}/from-inside", check=False)
                evidence.result(written)
                assert written.stdout.split() == [apptainer.user, "14"], (
                    f"{node.name}: {folder}/from-inside, written in the container, is {written.stdout.strip()!r} "
                    f"outside ({written.stderr.strip()}); expected a file of {apptainer.user} with 14 bytes"
                )
            alone = python(image, "container-facts.py", there.temporary, there.home, flags=["contain"])
            kept = inside(apptainer, node, evidence, alone)["witnesses"]
            assert not any(kept.values()), f"{node.name}: with --contain the node's files are seen inside: {kept}"
        ran = apptainer.run(node, image, "-c", "print(6 * 7)")
        evidence.result(ran)
        assert (ran.returncode, ran.stdout) == (0, "42\n"), (
            f"{node.name}: `apptainer run` ended with {ran.returncode} and {ran.stdout!r}, expected 0 and '42': "
            f"{ran.stderr.strip()[-200:]}"
        )

    on_each(apptainer.cluster.on("compute"), look)


@pytest.mark.check("CON-06")
def test_namespaces(apptainer: Apptainer, registry: Registry, evidence: Evidence) -> None:
    """A container has a user and a mount namespace of its own, pid and ipc ones when asked and allowed, no other."""
    image = registry.path("base")
    names = (*ALWAYS, *ON_DEMAND, "net", "uts")

    def look(node: Node) -> None:
        with judged():
            config = apptainer.config(node)
        allowed = [name for name in ON_DEMAND if config.get(f"allow {name} ns", ("yes",))[-1] == "yes"]
        listed = node.run("readlink", *(f"/proc/self/ns/{name}" for name in names), user=apptainer.user)
        evidence.result(listed)
        outside = dict(zip(names, listed.stdout.split(), strict=True))
        for flags, own in (((), ALWAYS), (ON_DEMAND, (*ALWAYS, *allowed))):
            seen = inside(apptainer, node, evidence, python(image, "container-facts.py", flags=flags))
            how = f"with {' '.join(f'--{flag}' for flag in flags)}" if flags else "without options"
            for name in names:
                within = seen["namespaces"][name]
                separate = within != outside[name]
                assert separate == (name in own), (
                    f"{node.name}: {how}, a container {'has its own' if separate else 'shares the'} {name} namespace "
                    f"({outside[name]} outside, {within} inside); expected {', '.join(own)} and no other to be its "
                    f"own, as {CONFIG} says"
                )

    on_each(apptainer.cluster.on("compute"), look)


@pytest.mark.check("CON-20")
def test_environment(apptainer: Apptainer, registry: Registry, evidence: Evidence, run_id: str) -> None:
    """The caller's environment is passed as is, unless --cleanenv or --containall; what --env sets arrives always.

    With --containall neither another process's environment nor a file in the caller's home is seen either.
    """
    image = registry.path("base")
    caller = ("env", "AI_HOW_SECRET=kept-out", "APPTAINERENV_AI_HOW_PASSED=passed")
    given = {"AI_HOW_PASSED": "passed", "AI_HOW_GIVEN": "given, with=signs"}

    def look(node: Node) -> None:
        with places(node, apptainer.user, f"ai-how-env-{run_id}") as there:
            for flag, expected in (
                ("", given | {"AI_HOW_SECRET": "kept-out"}),
                ("cleanenv", given),
                ("containall", given),
            ):
                flags = [flag] if flag else []
                env = {"AI_HOW_GIVEN": given["AI_HOW_GIVEN"]}
                call = python(image, "container-facts.py", there.home, flags=flags, env=env)
                seen = inside(apptainer, node, evidence, [*caller, *call])
                how = f"with --{flag}" if flag else "without options"
                assert seen["values"] == expected, (
                    f"{node.name}: {how}, a container has {seen['values']} of its caller; expected {expected}"
                )
            leaks = _leaks(seen, there.home)
            assert not leaks, f"{node.name}: with --containall a container sees {leaks}; expected nothing of its caller"

    on_each(apptainer.cluster.on("compute"), look)


@pytest.mark.check("CON-24")
@pytest.mark.requires("image.pytorch")
def test_interpreter_under_exec(apptainer: Apptainer, registry: Registry, evidence: Evidence) -> None:
    """Under exec, which runs no runscript, python3 is /venv's in every image, whatever the caller's PATH is."""
    node = apptainer.cluster.on("compute")[0]
    hostile = ("env", "PATH=/usr/bin:/bin", "VIRTUAL_ENV=/elsewhere")
    images = [entry.name for entry in registry.catalog()]
    assert "pytorch" in images, f"{registry.cluster.controller.name}: {registry.root} lists {images}, not pytorch"
    for name in images:
        for how, caller, flags in (
            ("", (), ()),
            (" with another PATH", hostile, ()),
            (" --cleanenv", (), ("cleanenv",)),
        ):
            call = python(registry.path(name), "container-facts.py", flags=flags)
            seen = inside(apptainer, node, evidence, [*caller, *call])
            assert (seen["interpreter"], seen["prefix"]) == ("/venv/bin/python3", "/venv"), (
                f"{node.name}: in {name}, exec{how} runs {seen['interpreter']} of {seen['prefix']}; expected "
                "/venv/bin/python3 of /venv: does the image's environment put /venv/bin first?"
            )
            assert seen["numpy"], f"{node.name}: in {name}, exec{how}: the interpreter has no numpy"


def _leaks(seen: dict[str, Any], home: str) -> str:
    """What a contained process sees of its caller, in words."""
    found = [f"AI_HOW_SECRET in {where}" for where in ("names", "others") if "AI_HOW_SECRET" in seen[where]]
    return ", ".join(found + ([f"{home}/witness"] if seen["witnesses"][home] else []))
