"""The check of escalation goes red for every right that a container gains, and for every attempt that was not made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.apptainer import Apptainer
from pytest_ai_how.services.registry import Registry
from suites.phase6 import test_task043_security as checks
from tests.unit.suites.task043_fakes import failed, machines, runs, said


def escalate(cluster: Cluster, evidence: Evidence) -> None:
    checks.test_escalation_is_denied(Apptainer(cluster), Registry(cluster), evidence)


def answering(what: str, answer: str, kind: str = "") -> Cluster:
    """Machines of which the second answers an attempt in another way."""
    told = json.loads(said("escalate.json"))
    found = [attempt for attempt in told["attempts"] if attempt[1] == what and kind in ("", attempt[0])]
    assert found, f"no attempt is called {what}"
    for attempt in found:
        attempt[2] = answer
    return machines({"node02": [(runs("container-escalate.py"), json.dumps(told))]})


def telling(**changes: object) -> Cluster:
    told = json.loads(said("escalate.json")) | changes
    return machines({"node02": [(runs("container-escalate.py"), json.dumps(told))]})


@pytest.mark.seen_to_fail("CON-05")
@pytest.mark.parametrize(
    ("what", "answer", "kind", "message"),
    [
        ("sudo -n true", "OK", "", r"in a container, sudo -n true \(sudo\) gave OK; expected one of"),
        ("/usr/bin/su", "uid 0", "", r"in a container of user 1000, /usr/bin/su runs as uid 0; expected no change"),
        ("/hostbin/newuidmap", "uid 0", "", r".* /hostbin/newuidmap runs as uid 0"),
        ("chroot /usr", "OK", "", r".* chroot /usr \(chroot\) gave OK"),
        ("make a block device", "OK", "device", r".* make a block device \(device\) gave OK"),
        ("make a block device", "OK", "namespace", r".* make a block device \(namespace\) gave OK"),
        ("mount a file system", "OK", "", r".* mount a file system \(capability\) gave OK"),
        ("set the host name", "OK", "", r".* set the host name \(capability\) gave OK"),
        ("become user 0", "OK", "", r".* become user 0 \(capability\) gave OK"),
        ("signal process 1", "OK", "", r".* signal process 1 \(capability\) gave OK"),
        ("read /hostetc/shadow", "OK", "host", r".* read /hostetc/shadow \(host\) gave OK"),
        ("write /hostetc/passwd", "OK", "namespace", r".* write /hostetc/passwd \(namespace\) gave OK"),
        ("write /hostetc/passwd", "ENOENT", "host", r".* write /hostetc/passwd \(host\) gave ENOENT"),
        ("create /usr/ai-how-escaped", "OK", "host", r".* create /usr/ai-how-escaped \(host\) gave OK"),
    ],
)
def test_a_container_that_gains_a_right(evidence: Evidence, what: str, answer: str, kind: str, message: str) -> None:
    escalate(machines(), evidence)
    with pytest.raises(AssertionError, match=rf"^node02: {message}"):
        escalate(answering(what, answer, kind), evidence)


@pytest.mark.seen_to_fail("CON-05")
def test_capabilities_and_privileges_that_are_left(evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^node02: a container has capabilities 0000000000200000, expected none"):
        escalate(telling(effective="0000000000200000"), evidence)
    with pytest.raises(AssertionError, match=r"^node02: a container may gain capabilities 000001ffffffffff"):
        escalate(telling(bounding="000001ffffffffff"), evidence)
    with pytest.raises(AssertionError, match=r"^node02: NoNewPrivs is 0 in a container, not 1"):
        escalate(telling(no_new_privileges="0"), evidence)


@pytest.mark.seen_to_fail("CON-05")
def test_attempts_that_were_not_made_prove_nothing(evidence: Evidence) -> None:
    with pytest.raises(AssertionError, match=r"^node02: 'make a block device' was not attempted; nothing was proven"):
        escalate(telling(attempts=[]), evidence)
    tried = [attempt for attempt in json.loads(said("escalate.json"))["attempts"] if attempt[0] != "setuid"]
    with pytest.raises(AssertionError, match=r"^node02: there is no set-uid program in the image"):
        escalate(telling(attempts=tried), evidence)
    silent = machines({"node02": [(runs("container-escalate.py"), failed("Traceback\nKeyError: 'CapEff'", 1))]})
    with pytest.raises(AssertionError, match=r"^node02: apptainer exec .* ended with 1: KeyError: 'CapEff'"):
        escalate(silent, evidence)


@pytest.mark.seen_to_fail("CON-05")
def test_a_host_file_that_was_changed(evidence: Evidence) -> None:
    digests = ["1  /etc/passwd\n2  /etc/shadow\n", "1  /etc/passwd\n9  /etc/shadow\n"]
    with pytest.raises(AssertionError, match=r"^node02: /etc/shadow was changed from inside"):
        escalate(machines({"node02": [("sha256sum -- /etc/passwd", digests)]}), evidence)


def test_nothing_is_tried_outside_of_a_container() -> None:
    program = Path(checks.__file__).parent / "payloads/container-escalate.py"
    environment = {name: value for name, value in os.environ.items() if name != "APPTAINER_CONTAINER"}
    # Without arguments it would come no further, should it try.
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "not in a container: nothing is tried\n")
