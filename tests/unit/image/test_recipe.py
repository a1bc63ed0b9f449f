"""The digest of a recipe is stable, and no input can change without changing it."""

from __future__ import annotations

import pytest

from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.recipe import digest_of, recipe
from tests.unit.image.conftest import FILES, Write


def digest(source: Source) -> str:
    return digest_of(recipe(source.define("node")))


def test_it_is_the_same_each_time_and_for_each_reader(source: Source) -> None:
    assert digest(source) == digest(Source(source.provisioning, source.versions))


def test_it_is_sha256_of_canonical_json() -> None:
    # sha256 of {"a":[1,2],"b":"é"} in UTF-8
    import hashlib

    assert digest_of({"b": "é", "a": [1, 2]}) == hashlib.sha256('{"a":[1,2],"b":"é"}'.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("versions.yaml", "trixie", "forky"),
        ("versions.yaml", "1.4.2", "1.4.3"),
        ("versions.yaml", "suite: sid", "suite: forky"),
        ("versions.yaml", '"3.39"', '"3.40"'),
        ("versions.yaml", "1700000000", "1700000001"),
        ("versions.yaml", "[main]", "[main, contrib]"),
        ("images/node.yaml", "doc/*", "man/*"),
        ("images/node.yaml", "kind: tree", "kind: sif"),
        ("images/node.yaml", "[top]", "[base]"),
        ("roles/base/role.yaml", "[systemd, fio]", "[systemd, fio, jq]"),
        ("roles/base/role.yaml", "enable:", "mask:"),
        ("roles/base/files/etc/motd", "hello", "hallo"),
        ("roles/top/role.yaml", "0750", "0700"),
        ("roles/top/role.yaml", "/srv/x", "/srv/y"),
        ("roles/top/role.yaml", "[echo, hi]", "[echo, ho]"),
    ],
)
def test_each_input_changes_it(source: Source, write: Write, name: str, old: str, new: str) -> None:
    before = digest(source)
    assert old in FILES[name]
    write(name, FILES[name].replace(old, new, 1))
    assert digest(source) != before


def test_a_mode_changes_it_but_only_whether_it_can_be_executed(source: Source) -> None:
    before = digest(source)
    tool = source.provisioning / "roles/top/files/usr/bin/tool"
    tool.chmod(0o700)
    assert digest(source) == before
    tool.chmod(0o644)
    assert digest(source) != before


def test_a_renamed_file_changes_it(source: Source) -> None:
    before = digest(source)
    (source.provisioning / "roles/base/files/etc/motd").rename(source.provisioning / "roles/base/files/etc/issue")
    assert digest(source) != before


def test_words_for_people_do_not_change_it(source: Source, write: Write) -> None:
    before = digest(source)
    write("roles/base/role.yaml", FILES["roles/base/role.yaml"].replace("the base", "another text"))
    assert digest(source) == before


def test_the_shipped_images_have_different_digests() -> None:
    shipped = Source.shipped()
    names = shipped.image_names()
    digests = {digest_of(recipe(shipped.define(name))) for name in names}
    assert names == ("base", "node", "pytorch")
    assert len(digests) == 3
