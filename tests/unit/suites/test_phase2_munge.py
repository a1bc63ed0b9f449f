"""The checks of who a message comes from go red on keys, people and credentials that are not right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.slurm import Slurm
from pytest_ai_how.shell import Result
from suites._machine import accounts
from suites.phase2 import test_munge as munge
from tests.fakes import fake_cluster

from .phase2_fakes import MUNGE, NAMES, digest, facts, slurm

RUN = "r1"
PASSWD = "slurm:x:64030:64030::/:/bin/false\nmunge:x:101:102::/:/bin/false\nhpc:x:1000:1000::/home/hpc:/bin/bash"
ACCOUNTS = munge.replace(accounts("slurm", "munge", "hpc"), after="slurm")


@pytest.mark.seen_to_fail("SLU-01")
@pytest.mark.parametrize(
    ("node", "told", "message"),
    [
        (
            "node02",
            {munge.MUNGE_KEY: digest("b")},
            "node02: its /etc/munge/munge.key is another one than that of contr",
        ),
        (
            "controller",
            {munge.MUNGE_KEY: digest("b")},
            "controller: its .* is another one than that of node01; expected",
        ),
        (
            "node01",
            {munge.MUNGE_FILES: MUNGE.replace("0400 munge", "0440 munge")},
            "node01: /etc/munge/munge.key is 0440 munge:munge, expected 0400 munge:munge; do: chown munge:munge",
        ),
        (
            "node01",
            {munge.MUNGE_FILES: MUNGE.replace("0711", "0755")},
            "node01: /var/lib/munge is 0755 munge:munge, exp",
        ),
        (
            "node01",
            {munge.MUNGE_FILES: MUNGE.replace("0755 munge", "0755 root")},
            "node01: /run/munge is 0755 root:munge",
        ),
        (
            "node02",
            {munge.MUNGE_FILES: Result((), 1, MUNGE.partition("\n")[2], "stat: cannot statx")},
            "node02: /etc/munge/munge.key is not there; expected it with 0400 munge:munge",
        ),
    ],
)
def test_keys_and_folders(node: str, told: Mapping[Any, Any], message: str) -> None:
    munge.test_key_and_folders(slurm(), facts())
    with pytest.raises(AssertionError, match=f"^{message}"):
        munge.test_key_and_folders(slurm(), facts(**{node: told}))


@pytest.mark.seen_to_fail("SLU-50")
def test_accounts_that_differ() -> None:
    def check(**changes: Mapping[Any, Any]) -> None:
        munge.test_accounts(slurm(), facts({ACCOUNTS: PASSWD}, **changes))

    check()
    with pytest.raises(
        AssertionError, match=r"^node02: user 'munge' has UID and GID \(103, 102\), on controller \(101,"
    ):
        check(node02={ACCOUNTS: PASSWD.replace("munge:x:101", "munge:x:103")})
    with pytest.raises(
        AssertionError, match=r"^controller: user 'hpc' has UID and GID \(1000, 100\), on node01 \(1000"
    ):
        check(controller={ACCOUNTS: PASSWD.replace("1000:1000", "1000:100")})
    with pytest.raises(AssertionError, match=r"^node01: there is no user 'hpc'; expected one"):
        check(node01={ACCOUNTS: Result((), 2, PASSWD.rpartition("\n")[0])})


def credentials(first: str = munge.SUCCESS, *later: str, message: str = "", made: Result | None = None) -> Slurm:
    """Machines whose unmunge says ``first`` of node01's long-lived credential, ``later`` of the short-lived ones."""

    def said(status: str, name: str, text: str = "") -> str:
        return f"STATUS:          {status}\n\n{text or f'{RUN} of {name}'}\n{RUN}\n"

    long = "".join(said(first if name == "node01" else munge.SUCCESS, name, message) for name in NAMES)
    short = ["".join(said(status, name) for name in NAMES) for status in later or (munge.EXPIRED,)]
    rules: list[Any] = [("munge", made or "MUNGE:AwQDAAB:\n"), (re.compile("unmunge"), [long, *short])]
    return Slurm(fake_cluster({"*": rules}), run=RUN)


@pytest.mark.seen_to_fail("SLU-02")
def test_credentials_that_are_refused_or_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(slurm: Slurm) -> None:
        evidence = Evidence()
        munge.test_all_pairs(slurm, evidence, RUN)
        assert evidence.samples

    check(credentials())
    # Not yet expired, then decoded before, then expired: that is how one goes.
    check(credentials(munge.SUCCESS, munge.SUCCESS, "Replayed credential (17)", munge.EXPIRED))
    with pytest.raises(AssertionError, match=r"^controller: unmunge of node01's credential says Invalid credential;"):
        check(credentials("Invalid credential"))
    with pytest.raises(AssertionError, match=r"^controller: decodes 'another' of controller, expected 'r1 of contr"):
        check(credentials(message="another"))
    with pytest.raises(AssertionError, match=r"^controller: munge exited with 6: munge: Error: Failed to connect to"):
        check(credentials(made=Result((), 6, stderr="munge: Error: Failed to connect to server\n")))
    monkeypatch.setattr(munge, "EXPIRES_WITHIN", 0.1)
    with pytest.raises(
        AssertionError,
        match=r"(?s)^local: not refusing credentials .* last seen: controller says Success \(0\) of contr",
    ):
        check(credentials(munge.SUCCESS, munge.SUCCESS))


def test_an_answer_that_is_none_is_no_success() -> None:
    said = f"unmunge: Error: Invalid credential\n{RUN}\n\n{RUN}\n"
    assert munge.parse_decoded(said, RUN) == [munge.Decoded("Invalid credential", ""), munge.Decoded("", "")]
