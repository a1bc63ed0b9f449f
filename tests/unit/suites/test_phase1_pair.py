"""The key pair of a run goes red where others have its private half, or something else opens the machines (PRV-11)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_ai_how.drivers.machines.identity import make_pair, write_private
from pytest_ai_how.report.evidence import Evidence
from suites.phase0._keys import Keys
from suites.phase1 import _pair
from suites.phase1 import test_access as access
from suites.phase1._pair import OPENED_BY, Pair
from tests.fakes import fake_cluster

from .phase1_fakes import also


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    made, folder = make_pair(), tmp_path / "keys"
    folder.mkdir(mode=0o700)
    write_private(folder / "id_ed25519", made.private)
    return Pair(Keys(folder / "id_ed25519", made.public), make_pair().public)


def told(pair: Pair, **changed: str) -> str:
    """What a machine says; ``changed`` are the lines of some accounts."""
    ours = f"{pair.keys.public}\n"
    keys = {"root": ours, "admin": ours, "hpc": f"{ours}{pair.between}\n"} | changed
    homes = {"root": ("root", "/root"), "admin": ("ai-how", "/home/ai-how"), "hpc": ("hpc", "/home/hpc")}
    return "".join(
        f"account: {name} {name} 600 {home}/.ssh/authorized_keys\n{keys[who]}\n" for who, (name, home) in homes.items()
    )


def judge(pair: Pair, change: Callable[[str], str] = str, **changed: str) -> Evidence:
    evidence = Evidence()
    cluster = fake_cluster({})
    access.test_the_key_pair_of_this_run(
        cluster, pair, also(OPENED_BY, other=told(pair), node02=change(told(pair, **changed))), evidence
    )
    return evidence


def test_a_pair_that_is_ours_alone(pair: Pair) -> None:
    evidence = judge(pair, hpc=f"# who\n{pair.between} hpc@lab\n{pair.keys.public}\n")
    assert "PRIVATE" not in "".join(one.content for one in evidence.items)


@pytest.mark.seen_to_fail("PRV-11")
def test_a_private_half_that_others_have(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.keys.private.chmod(0o640)
    with pytest.raises(AssertionError, match=r"id_ed25519: mode is 0640, expected 0600; do: chmod 600 "):
        judge(pair)
    pair.keys.private.chmod(0o600)
    pair.keys.private.parent.chmod(0o755)
    with pytest.raises(AssertionError, match=r"/keys: mode is 0755, expected 0700; do: chmod 700 "):
        judge(pair)
    pair.keys.private.parent.chmod(0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(
        AssertionError, match=rf"id_ed25519: belongs to user {owner}, expected 4711, who runs this; do: chown it"
    ):
        judge(pair)


@pytest.mark.seen_to_fail("PRV-11")
def test_a_public_half_of_another_pair(pair: Pair) -> None:
    other = replace(pair, keys=replace(pair.keys, public=make_pair().public))
    with pytest.raises(
        AssertionError, match=r"id_ed25519: its public half is ssh-ed25519 .*, the one that was kept is"
    ):
        judge(other)
    pair.keys.private.write_text("rubbish\n")
    with pytest.raises(AssertionError, match="id_ed25519: can't be read as a private key: "):
        judge(pair)


@pytest.mark.seen_to_fail("PRV-11")
def test_a_machine_that_another_key_opens(pair: Pair) -> None:
    stranger = make_pair().public
    says = (
        r"^node02: /root/\.ssh/authorized_keys lets in ssh-ed25519 .*, which is none of ours; expected 1 of this run "
    )
    with pytest.raises(AssertionError, match=says):
        judge(pair, root=f"{pair.keys.public}\n{stranger}\n")
    with pytest.raises(AssertionError, match=r"^node02: /root/.ssh/authorized_keys lets in command=\"sh\" ssh-ed2…"):
        judge(pair, root=f'{pair.keys.public}\ncommand="sh" {pair.keys.public}\n')
    with pytest.raises(AssertionError, match=r"^node02: /root/.ssh/authorized_keys lets in ssh-ed25519"):
        judge(pair, root=f"{pair.keys.public}\n{pair.between}\n")
    extra = f"account: munge munge 600 /var/lib/munge/.ssh/authorized_keys2\n{pair.keys.public}\n"
    with pytest.raises(
        AssertionError, match=r"^node02: /var/lib/munge/.ssh/authorized_keys2 lets .* expected none: nobody logs in as"
    ):
        judge(pair, lambda text: text + extra)


@pytest.mark.seen_to_fail("PRV-11")
def test_a_machine_that_our_key_does_not_open(pair: Pair) -> None:
    with pytest.raises(
        AssertionError, match=r"^node02: /home/hpc/.ssh/authorized_keys lacks ssh-ed25519 .*, expected the key of this"
    ):
        judge(pair, hpc=f"{pair.between}\n")
    gone = told(pair).split("account: hpc", maxsplit=1)[0]
    with pytest.raises(
        AssertionError, match=r"^node02: hpc has no /home/hpc/.ssh/authorized_keys, expected the key of this run in it"
    ):
        judge(pair, lambda _: gone)
    with pytest.raises(
        AssertionError, match=r"^node02: /root/.ssh/authorized_keys is hpc's with mode 0644, expected root's with 0600"
    ):
        judge(pair, lambda text: text.replace("root root 600", "root hpc 644"))


def test_keys_are_read_as_they_are(tmp_path: Path) -> None:
    """What runs on a machine, with a getent that tells of two homes."""
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        (home / ".ssh").mkdir(parents=True)
    (homes[0] / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA me")  # no newline at its end
    (homes[0] / ".ssh/authorized_keys").chmod(0o640)
    (homes[1] / ".ssh/authorized_keys2").write_text("ssh-ed25519 BBBB\n")
    program = tmp_path / "getent"
    program.write_text("#!/bin/sh\n" + "".join(f"echo {home.name}:x:1:1:A B:{home}:/bin/sh\n" for home in homes))
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", _pair.KEYS], env={"PATH": path}, capture_output=True, text=True, check=True)
    found = _pair.opened(done.stdout)
    first, second = f"one {homes[0]}/.ssh/authorized_keys", f"two {homes[1]}/.ssh/authorized_keys2"
    assert {name: one.keys for name, one in found.items()} == {
        first: {"ssh-ed25519 AAAA"},
        second: {"ssh-ed25519 BBBB"},
    }
    assert found[first].mode == 0o640
    with pytest.raises(ValueError, match="no account has keys"):
        _pair.opened("")
