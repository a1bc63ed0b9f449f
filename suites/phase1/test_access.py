"""Getting in: by key only, as root by sudo, and to the machine that is meant."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.facts import Fact
from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.report.facts import Facts

from ._access import BY_PASSWORD, offered, with_new_key, without_key, wrong_policy
from ._facts import SSHD, settings
from ._pair import OPENED_BY, Pair, key, loose, wrong_doors
from ._rebuilt import Rebuilt

#: How a machine's own ssh treats host keys: OpenSSH says true for yes (10.0).
SSH = Fact("how its ssh checks host keys", ("ssh", "-G", "anybody"), settings)
STRICT = frozenset({"true", "yes", "ask"})
#: What is proved of root's login, in words: the run itself may be the exception to the rule.
BY_OUR_KEY = (
    "not refused to this run, which comes as root by its own key; by password and by another key refused, tried"
)
NOT_AT_ALL = "refused altogether by sshd's settings; by password and by another key refused, tried"


@pytest.mark.check("INF-05")
@pytest.mark.requires("network", "root")
@pytest.mark.reads(SSHD)
def test_nobody_gets_in_without_a_key(
    cluster: Cluster, administrators: Mapping[str, Node], facts: Facts, evidence: Evidence
) -> None:
    """The administrator logs in with a key; sshd offers no password to anybody, root included, and takes no new key.

    Root is not refused where this run itself comes as root: on machines that we make, and where ``ssh.user`` is root.
    There root gets in by key only, and PRV-11 says whose. Elsewhere root must not get in at all.
    """
    config = cluster.config
    ours, found = config.is_ours or config.ssh.user == "root", facts(SSHD)
    wrong = [line for name, settings in found.items() for line in wrong_policy(name, settings, root=ours)]
    assert not wrong, "; ".join(wrong)
    ports = {name: int(settings["port"][0]) for name, settings in found.items()}
    for user in ("root", config.user):
        for name, told in cluster.all.map(partial(without_key, user=user, ports=ports)).items():
            evidence.result(told)
            ways = offered(told)
            assert "none" not in ways, f"{name}: let {user} in without a key or password"
            assert not ways & BY_PASSWORD, (
                f"{name}: its sshd offers {', '.join(sorted(ways & BY_PASSWORD))} to {user}, expected publickey alone"
            )
        for name, told in cluster.all.map(partial(with_new_key, user=user, ports=ports)).items():
            evidence.result(told, f"{name}: {user}, with a key that nobody knows")
            assert "none" not in offered(told), (
                f"{name}: let {user} in with a key that was made just now, expected a refusal; do: see "
                "AuthorizedKeysCommand and TrustedUserCAKeys in `sshd -T`, and what sshd runs there"
            )
    evidence.attach("root", BY_OUR_KEY if ours else NOT_AT_ALL)
    for name, node in administrators.items():
        came = node.run("id", "-un", check=False)
        evidence.result(came, f"{name}: the administrator, by key")
        assert came.ok and came.stdout.strip(), (  # noqa: PT018  one answer
            f"{name}: the administrator's login by key ended with {came.returncode}"
        )


@pytest.mark.check("PRV-11")
@pytest.mark.requires("network", "owned")
@pytest.mark.reads(OPENED_BY)
def test_the_key_pair_of_this_run(cluster: Cluster, pair: Pair, facts: Facts, evidence: Evidence) -> None:
    """The private half is this account's alone, and its public half is what opens the machines, and nothing else does.

    That the job user goes from node to node by a key of its own is the exception. Phase 0 has tried a pair like this
    before there were machines.
    """
    private = pair.keys.private
    evidence.attach("key pair", f"{private}, mode {pair.keys.mode:04o}\npublic: {pair.keys.public}")
    wrong = list(loose(private))
    assert not wrong, "; ".join(wrong)
    try:
        derived = key(pair.keys.derived())
    except ValueError as error:
        raise AssertionError(f"{private}: can't be read as a private key: {error}") from error
    assert derived == key(pair.keys.public), (
        f"{private}: its public half is {derived}, the one that was kept is {key(pair.keys.public)}; expected a pair"
    )
    for name, found in facts(OPENED_BY).items():
        wrong += wrong_doors(name, found, pair, cluster.config.user)
    assert not wrong, "; ".join(wrong)


@pytest.mark.check("INF-06")
@pytest.mark.requires("sudo")
def test_the_administrator_becomes_root(administrators: Mapping[str, Node], evidence: Evidence) -> None:
    """The account that administrators log in as becomes root by sudo, without a password and without a terminal."""
    assert administrators, "no machine has an administrator; nothing was tried"
    for name, node in administrators.items():
        who, became = node.run("id", "-un"), node.run("sudo", "-n", "id", "-u", check=False)
        evidence.result(who)
        evidence.result(became)
        said = (became.stderr.strip() or became.stdout.strip() or "nothing").splitlines()[-1]
        assert who.stdout.strip() != "root", f"{name}: the administrator is root already; sudo was not put to the test"
        assert (became.returncode, became.stdout.strip()) == (0, "0"), (
            f"{name}: `sudo -n id -u` as {who.stdout.strip()} said {said!r}, expected 0; see /etc/sudoers.d there"
        )


@pytest.mark.check("PRV-22")
@pytest.mark.requires("network")
@pytest.mark.reads(SSH)
def test_no_machine_trusts_any_host_key(facts: Facts) -> None:
    """On no machine ssh is told to take whoever answers for the one that is meant."""
    for name, told in facts(SSH).items():
        strict, files = told.get("stricthostkeychecking", ("not told",))[0], told.get("userknownhostsfile", ("",))[0]
        assert strict in STRICT, f"{name}: ssh goes by StrictHostKeyChecking {strict}, expected yes or ask"
        assert "/dev/null" not in files.split(), f"{name}: ssh forgets host keys: UserKnownHostsFile is {files}"


@pytest.mark.check("PRV-22")
@pytest.mark.requires("owned")
def test_a_rebuilt_machine_lets_us_in(rebuilt: Rebuilt, evidence: Evidence) -> None:
    """A machine that is made anew has another host key, is reached by it without a question, and not by the old one."""
    evidence.attach("host keys", f"{rebuilt.before}\n{rebuilt.after}")
    evidence.result(rebuilt.login)
    evidence.attach("a login that trusts the old key", rebuilt.by_old_key or "succeeded")
    assert rebuilt.before != rebuilt.after, f"{rebuilt.node}: has the same host key as before; it was not made anew"
    assert (rebuilt.login.returncode, rebuilt.login.stdout.strip()) == (0, rebuilt.node), (
        f"{rebuilt.node}: the login after it was made anew said {rebuilt.login.stdout.strip()!r} with status "
        f"{rebuilt.login.returncode}, expected its name"
    )
    assert "shows the host key" in rebuilt.by_old_key, (
        f"{rebuilt.node}: a login that trusts the old key said {rebuilt.by_old_key or 'nothing and succeeded'!r}, "
        "expected a refusal: host keys are not checked"
    )
