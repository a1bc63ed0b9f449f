import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from pytest_ai_how.drivers.machines.identity import (
    load_identity,
    make_identity,
    make_pair,
    save_identity,
    write_private,
)
from pytest_ai_how.errors import ProvisionError


def test_pair_is_one_that_openssh_reads_and_its_halves_fit() -> None:
    pair = make_pair()
    private = load_ssh_private_key(pair.private, password=None)
    assert private.public_key() == load_ssh_public_key(pair.public.encode())
    assert pair.public.startswith("ssh-ed25519 ")


def test_every_key_of_a_cluster_is_another_one() -> None:
    first, second = make_identity(["node01", "node02"]), make_identity(["node01", "node02"])
    pairs = [each for one in (first, second) for each in (one.client, one.user, *one.hosts.values())]
    assert len({pair.public for pair in pairs}) == 8
    assert first.munge != second.munge


def test_secrets_are_not_in_what_is_printed() -> None:
    identity = make_identity(["node01"])
    assert "PRIVATE KEY" not in repr(identity.client)
    assert repr(identity.munge) not in repr(identity)


def test_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == b"new"


def test_what_is_kept_is_what_was_made_and_for_its_owner_only(tmp_path: Path) -> None:
    made = make_identity(["controller", "node01"])
    save_identity(tmp_path, made)
    assert load_identity(tmp_path) == made
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [0o600]


def test_keys_of_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match=r"identity\.json: can't be read .*\n  expected: the keys of a"):
        load_identity(tmp_path)
