"""TASK-043: what a process in a container must not be able to do, tried in earnest."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from pytest_ai_how.shell import Result

from ._containers import inside, on_each, python

pytestmark = pytest.mark.requires("apptainer")

#: What counts as denied, by kind of attempt. A user that a namespace does not have can't be become (EINVAL); a program
#: or device that is not there can't be used (ENOENT); a device without a driver is refused by nobody, so ENXIO is not
#: denied. Of set-uid programs what is told is the user that they ran as.
DENIED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "sudo": frozenset({"EPERM", "EACCES", "ENOENT"}),
        "chroot": frozenset({"EPERM", "EACCES"}),
        "device": frozenset({"EPERM", "EACCES", "ENOENT"}),
        "capability": frozenset({"EPERM", "EACCES", "EINVAL"}),
        "host": frozenset({"EPERM", "EACCES", "EROFS"}),
        "namespace": frozenset({"EPERM", "EACCES", "EROFS", "ENOSPC", "ENOENT"}),
    }
)
#: Attempts without which their kind was not put to the test.
EXPECTED = ("make a block device", "mount a file system", "chroot /usr", "sudo -n true", "write /hostetc/passwd")
#: To make a user namespace and be root in it is allowed; it must not help.
HARMLESS = ("unshare", "become root")
FILES = ("/etc/passwd", "/etc/shadow", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname")


@pytest.mark.check("CON-05")
def test_escalation_is_denied(apptainer: Apptainer, registry: Registry, evidence: Evidence) -> None:
    """In a container, the job user gains nothing by sudo, set-uid programs, chroot, devices, mounts or the host's /etc.

    Each is attempted, once as the job user and once as root of a user namespace of its own, and what the kernel
    answered is attached. The host's files are compared before and after.
    """
    image = registry.path("base")
    nodes = apptainer.cluster.on("compute")
    before = nodes.run("sha256sum", "--", *FILES)
    call = python(image, "container-escalate.py", "/hostetc", "/hostbin", binds=["/etc:/hostetc", "/usr/bin:/hostbin"])
    for name, seen in on_each(nodes, lambda node: inside(apptainer, node, evidence, call)).items():
        _judge(name, seen)
    after = nodes.run("sha256sum", "--", *FILES)
    for name, result in after.items():
        evidence.result(result)
        assert result.stdout == before[name].stdout, f"{name}: {_changed(before[name], result)} was changed from inside"


def _judge(node: str, seen: dict[str, Any]) -> None:
    attempts = [(str(kind), str(what), str(answer)) for kind, what, answer in seen["attempts"]]
    untried = [what for what in EXPECTED if what not in {tried for _, tried, _ in attempts}]
    assert not untried, f"{node}: '{untried[0]}' was not attempted; nothing was proven of it"
    programs = [what for kind, what, _ in attempts if kind == "setuid"]
    assert programs, f"{node}: there is no set-uid program in the image nor in the node's /usr/bin; none was tried"
    for kind, what, answer in attempts:
        if kind == "setuid":
            assert answer in {f"uid {seen['user']}", "EPERM", "EACCES"}, (
                f"{node}: in a container of user {seen['user']}, {what} runs as {answer}; expected no change of user"
            )
        elif what not in HARMLESS:
            assert answer in DENIED[kind], (
                f"{node}: in a container, {what} ({kind}) gave {answer}; "
                f"expected one of {', '.join(sorted(DENIED[kind]))}"
            )
    assert int(seen["effective"], 16) == 0, f"{node}: a container has capabilities {seen['effective']}, expected none"
    assert int(seen["bounding"], 16) == 0, (
        f"{node}: a container may gain capabilities {seen['bounding']}, expected none"
    )
    assert seen["no_new_privileges"] == "1", f"{node}: NoNewPrivs is {seen['no_new_privileges']} in a container, not 1"


def _changed(before: Result, after: Result) -> str:
    was, now = before.stdout.splitlines(), after.stdout.splitlines()
    return next((line.split()[-1] for line in was if line not in now), "a file of the host")
