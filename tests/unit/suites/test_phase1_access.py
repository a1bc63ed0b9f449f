"""The checks of who gets in go red on machines that let others in, or the administrator not, and name them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_ai_how.config.loader import load_config
from pytest_ai_how.config.models import Ssh
from pytest_ai_how.errors import AiHowError, HostKeyError
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from pytest_ai_how.transport.fake import Answers, FakeTransport
from pytest_ai_how.transport.ssh import SshTransport
from suites.phase1 import _access, _rebuilt
from suites.phase1 import _facts as read
from suites.phase1 import test_access as access
from suites.phase1._access import administrators
from suites.phase1._rebuilt import Rebuilt
from suites.phase4._small import Small
from tests.fakes import fake_cluster

from .phase1_fakes import ADDRESS, SSHD, also, facts
from .task035_fakes import small

KEY_ONLY = Result((), 255, stderr="root@10.78.0.12: Permission denied (publickey).\n")
PASSWORDS = Result((), 255, stderr="root@10.78.0.12: Permission denied (publickey,password).\n")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hangs up does so for ever, and is asked once."""
    monkeypatch.setattr(_access, "PENALTY", 0.0)
    monkeypatch.setattr(_access, "_AGAIN", 0.0)


def as_administrators(**answers: Answers) -> dict[str, Node]:
    """Machines as their administrator sees them; ``answers`` are those of sudo, by machine."""
    return {
        node.name: Node(node, FakeTransport(node.name, {"id": "ai-how\n", "sudo": answers.get(node.name, "0\n")}))
        for node in load_config("local").nodes
    }


def let_in(
    told: Answers = KEY_ONLY,
    sshd: str = SSHD,
    ssh: Ssh | None = None,
    came: Mapping[str, Node] | None = None,
    new: Answers = KEY_ONLY,
    on: tuple[str, ...] = ("node01",),
) -> Evidence:
    config = load_config("local")
    if ssh:
        config = config.model_copy(update={"driver": "ssh", "ssh": ssh})
    evidence = Evidence()
    both = {"ssh": KEY_ONLY, "sh -c": KEY_ONLY}
    cluster = fake_cluster({"node02": {"ssh": told, "sh -c": new}, "*": both}, config=config)
    access.test_nobody_gets_in_without_a_key(
        cluster, came or as_administrators(), facts(evidence, **{name: {read.SSHD: sshd} for name in on}), evidence
    )
    assert len(evidence.items) > 12
    return evidence


@pytest.mark.seen_to_fail("INF-05")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("passwordauthentication no", "passwordauthentication yes", "passwordauthentication yes, expected no; see"),
        (
            "kbdinteractiveauthentication no",
            "kbdinteractiveauthentication yes",
            "kbdinteractiveauthentication yes, exp",
        ),
        ("permitemptypasswords no", "permitemptypasswords yes", "permitemptypasswords yes, expected no"),
        ("pubkeyauthentication yes", "pubkeyauthentication no", "pubkeyauthentication no, expected yes"),
        (
            "permitrootlogin without-password",
            "permitrootlogin yes",
            "permitrootlogin yes, expected forced-commands-only",
        ),
    ],
)
def test_an_sshd_that_takes_passwords(old: str, new: str, says: str) -> None:
    let_in()
    with pytest.raises(AssertionError, match=rf"^node01: sshd goes by {says}"):
        let_in(sshd=SSHD.replace(old, new))


@pytest.mark.seen_to_fail("INF-05")
def test_root_gets_into_a_machine_of_a_site() -> None:
    let_in(ssh=Ssh(user="root"))
    with pytest.raises(
        AssertionError, match=r"^controller: sshd goes by permitrootlogin without-password, expected no"
    ):
        let_in(ssh=Ssh(user="admin"))


@pytest.mark.seen_to_fail("INF-05")
def test_an_sshd_that_offers_passwords_whatever_it_says() -> None:
    with pytest.raises(AssertionError, match=r"^node02: its sshd offers password to root, expected publickey alone"):
        let_in(PASSWORDS)
    with pytest.raises(AssertionError, match=r"^node02: let root in without a key or password"):
        let_in("")


def test_what_is_proved_of_root_is_said_in_the_evidence() -> None:
    def said(ssh: Ssh | None = None, sshd: str = SSHD) -> str:
        return next(one.content for one in let_in(ssh=ssh, sshd=sshd, on=tuple(ADDRESS)).items if one.name == "root")

    assert said() == said(Ssh(user="root")) == access.BY_OUR_KEY
    never = SSHD.replace("permitrootlogin without-password", "permitrootlogin no")
    assert said(Ssh(user="admin"), never) == access.NOT_AT_ALL


@pytest.mark.seen_to_fail("INF-05")
def test_a_key_that_nobody_knows_opens_a_machine() -> None:
    with pytest.raises(
        AssertionError,
        match=r"^node02: let root in with a key that was made just now, expected a refusal; do: see Auth",
    ):
        let_in(new="")
    with pytest.raises(AssertionError, match=r"^node02: let hpc in with a key that was made just now, expected"):
        let_in(new=[KEY_ONLY, ""])
    with pytest.raises(AiHowError, match="^node02: its sshd neither let us in nor refused us: no ssh-keygen"):
        let_in(new=Result((), 125, stderr="no ssh-keygen\n"))


def test_a_new_key_is_tried_and_gone_afterwards(tmp_path: Path) -> None:
    """What runs on a machine, with a stand-in for ssh that shows what it was given."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text('#!/bin/sh\ncat "$2.pub"\necho "$@"\nexit 255\n')
    ssh.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    environ = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "TMPDIR": f"{tmp_path}/tmp"}
    done = subprocess.run(
        ["sh", "-c", _access.NEW_KEY, "sh", "-p", "22", "root@node"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    public, options = done.stdout.splitlines()
    assert (done.returncode, public.split()[0]) == (255, "ssh-ed25519")
    assert options.endswith("-o IdentitiesOnly=yes -o IdentityAgent=none -p 22 root@node")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.seen_to_fail("INF-05")
def test_the_administrators_key_is_refused() -> None:
    came = as_administrators()
    came["node02"] = Node(came["node02"].config, FakeTransport("node02", {"id": Result((), 255)}))
    with pytest.raises(AssertionError, match=r"^node02: the administrator's login by key ended with 255"):
        let_in(came=came)


def test_an_sshd_that_says_nothing_is_no_verdict() -> None:
    with pytest.raises(AiHowError, match="^node02: its sshd neither let us in nor refused us: .*Connection refused"):
        let_in(Result((), 255, stderr="ssh: connect to host 10.78.0.12 port 22: Connection refused\n"))


@pytest.mark.seen_to_fail("INF-06")
def test_an_administrator_who_is_asked_for_a_password() -> None:
    access.test_the_administrator_becomes_root(as_administrators(), Evidence())
    asked = Result((), 1, stderr="sudo: a password is required\n")
    with pytest.raises(AssertionError, match=r"^node01: `sudo -n id -u` as ai-how said 'sudo: a password is required'"):
        access.test_the_administrator_becomes_root(as_administrators(node01=asked), Evidence())
    with pytest.raises(
        AssertionError, match=r"^node02: `sudo -n id -u` as ai-how said '1001', expected 0; see /etc/su"
    ):
        access.test_the_administrator_becomes_root(as_administrators(node02="1001\n"), Evidence())
    root = {"node01": Node(load_config("local").nodes[1], FakeTransport("node01", {"id": "root\n", "sudo": "0\n"}))}
    with pytest.raises(
        AssertionError, match=r"^node01: the administrator is root already; sudo was not put to the test"
    ):
        access.test_the_administrator_becomes_root(root, Evidence())
    with pytest.raises(AssertionError, match="^no machine has an administrator; nothing was tried"):
        access.test_the_administrator_becomes_root({}, Evidence())


def test_the_administrator_comes_by_our_key_as_the_account_of_the_image() -> None:
    cluster = fake_cluster({})
    with pytest.raises(AiHowError, match="^controller: is not reached by ssh"):
        administrators(cluster)
    for node in cluster.nodes:
        node.transport = SshTransport(node.name, node.address, 22, "root", Path("/key"), Path("/known"))
    found = [node.transport for node in administrators(cluster).values()]
    assert {one.user for one in found if isinstance(one, SshTransport)} == {"ai-how"}
    assert len(found) == len(ADDRESS)


STRICT = "port 22\nstricthostkeychecking true\nuserknownhostsfile ~/.ssh/known_hosts\n"


@pytest.mark.seen_to_fail("PRV-22")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("checking true", "checking false", "ssh goes by StrictHostKeyChecking false, expected yes or ask"),
        ("checking true", "checking accept-new", "ssh goes by StrictHostKeyChecking accept-new, expected yes or ask"),
        ("~/.ssh/known_hosts", "/dev/null", "ssh forgets host keys: UserKnownHostsFile is /dev/null"),
    ],
)
def test_a_machine_that_trusts_anybody(old: str, new: str, says: str) -> None:
    access.test_no_machine_trusts_any_host_key(also(access.SSH, other=STRICT))
    with pytest.raises(AssertionError, match=rf"^node02: {says}"):
        access.test_no_machine_trusts_any_host_key(also(access.SSH, other=STRICT, node02=STRICT.replace(old, new)))


NAMED = Result(("uname", "-n"), 0, "controller\n")
REFUSED = "controller: 10.161.0.10:22 shows the host key ssh-ed25519 SHA256:b\n  expected: ssh-ed25519 SHA256:a"
WELL = Rebuilt("controller", "ssh-ed25519 a", "ssh-ed25519 b", NAMED, REFUSED)


@pytest.mark.seen_to_fail("PRV-22")
def test_a_rebuilt_machine_that_is_not_told_from_the_old_one() -> None:
    access.test_a_rebuilt_machine_lets_us_in(WELL, Evidence())
    for seen, says in (
        (Rebuilt("controller", "a", "a", NAMED, REFUSED), "has the same host key as before; it was not made anew"),
        (
            Rebuilt("controller", "a", "b", Result((), 255), REFUSED),
            r"the login after it was made anew said '' with st",
        ),
        (
            Rebuilt("controller", "a", "b", NAMED, ""),
            "a login that trusts the old key said 'nothing and succeeded', exp",
        ),
    ):
        with pytest.raises(AssertionError, match=rf"^controller: {says}"):
            access.test_a_rebuilt_machine_lets_us_in(seen, Evidence())


def test_a_machine_that_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "[  0.4 s] anew: starting machines\nnode01: no sshd\n    (nothing)\n  do: read console.log\n"
    monkeypatch.setattr(Small, "up", lambda self: Result(("up",), 1, said))
    made = small(tmp_path)
    with pytest.raises(AiHowError) as caught:
        _rebuilt.rebuild(made)
    assert str(caught.value) == (
        "life: `up` exited with 1, expected 0: node01: no sshd\n    (nothing)\n  do: read console.log"
    )


def test_a_login_by_an_old_key(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("local").nodes[0]
    transport = SshTransport(config.name, "10.78.0.10", 22, "root", Path("/key"), Path("/known"))
    told: list[Path] = []

    def execute(self: SshTransport, argv: object, **options: object) -> Result:
        told.append(self.known_hosts)
        if self.known_hosts == Path("/old"):
            raise HostKeyError("controller", "10.78.0.10:22 shows the host key b")
        return Result(("true",), 0)

    monkeypatch.setattr(SshTransport, "execute", execute)
    node = Node(config, transport)
    assert _rebuilt.refused(node, Path("/old")) == "controller: 10.78.0.10:22 shows the host key b"
    assert _rebuilt.refused(node, Path("/known")) == ""
    assert told == [Path("/old"), Path("/known")]


def test_an_sshd_that_hangs_up_on_who_failed_too_often_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hung_up = Result(("ssh",), 255, "", "kex_exchange_identification: read: Connection reset by peer\n")
    refused = Result(("ssh",), 255, "", "root@10.78.0.11: Permission denied (publickey).\n")
    monkeypatch.setattr(_access, "PENALTY", 40.0)
    said = [hung_up, hung_up, refused]
    node = Node(load_config("local").nodes[0], FakeTransport("controller", [("ssh", said)]))
    assert _access.without_key(node, "root", {"controller": 22}).stderr == refused.stderr
    monkeypatch.setattr(_access, "PENALTY", 0.0)
    node = Node(load_config("local").nodes[0], FakeTransport("controller", [("ssh", hung_up)]))
    with pytest.raises(AiHowError, match="controller: its sshd neither let us in nor refused us: kex_exchange"):
        _access.offered(_access.without_key(node, "root", {"controller": 22}))
