"""The checks of roles go red for roles with one mistake each, for what apt lacks, and for words that are retired."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from pytest_ai_how.config.loader import load_config, load_configs
from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.image.recipe import digest_of, own_part
from pytest_ai_how.image.store import Store, describe
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result
from suites.phase0 import _roles as roles
from suites.phase0 import test_roles as phase0
from suites.phase0._retired import Retired, product, retired, sources
from suites.phase0._roles import Packages, catalogued, packages, served, unit_names

SHELLCHECK = shutil.which("shellcheck") or ""
DATA = Path(__file__).parents[2] / "data" / "provisioning"
SHIPPED = [config for name in ("local", "vm", "beegfs", "workstation") for config in load_configs(name, environ={})]


@pytest.fixture(autouse=True)
def no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is built here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def world(name: str) -> Source:
    return Source(DATA / name, DATA / "versions.yaml")


def saying(text: str = "", status: int = 0, units: Sequence[str] = ("made.service",)) -> phase0.Verify:
    """A systemd-analyze that says this of every image."""
    return lambda _: (units, Result(("systemd-analyze", "verify", *units), status, text, node="image"))


def content(lacking: str = "") -> roles.Catalogued:
    return catalogued(world(lacking or "unused"))


def test_what_ships_passes(evidence: Evidence) -> None:
    source = Source.shipped()
    found = catalogued(source)
    phase0.test_roles_can_be_read(found, evidence)
    phase0.test_every_role_is_used(found, source, evidence)
    phase0.test_packages_can_be_had(packages(found, lambda *_: ""), evidence)
    phase0.test_templates_render(SHIPPED, evidence)
    phase0.test_units_verify(found, saying(), evidence)
    for config in SHIPPED:
        booted = source.define("vm-beegfs" if config.storage.kind == "beegfs" else "vm")
        phase0.test_every_pattern_matches_a_machine(config, booted, found, SHIPPED, evidence)
    top = product()
    phase0.test_no_retired_role_is_referred_to(retired(), sources(top), top, evidence)
    phase0.test_no_retired_product_name(retired(), sources(top), top, evidence)
    assert all(item.size for item in evidence.items)


@pytest.mark.seen_to_fail("INF-39")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cycle", "cycle/roles/base/role.yaml:2: needs.0: roles need each other in a circle: top → base → top"),
        ("mistyped", "mistyped/roles/top/role.yaml:2: packges: unknown key (did you mean 'packages'?)"),
        ("twice", "twice/roles/top/files/etc/motd:1: /etc/motd comes from two roles, 'base' and 'top'"),
    ],
)
def test_a_role_that_can_not_be_read(name: str, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        phase0.test_roles_can_be_read(catalogued(world(name)), Evidence())
    assert f"{DATA}/{said}" in str(caught.value)


@pytest.mark.seen_to_fail("INF-39")
def test_a_role_without_an_image_is_read_too(tmp_path: Path, no_evidence: Evidence) -> None:
    for path, text in {"roles/left/role.yaml": "packages: [fio]\n", "images/.keep": ""}.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(AssertionError, match=r"roles/left/role\.yaml:1: description: "):
        phase0.test_roles_can_be_read(catalogued(Source(tmp_path, DATA / "versions.yaml")), no_evidence)
    (tmp_path / "roles/left/role.yaml").unlink()
    with pytest.raises(AssertionError, match="provisioning/images: no image is declared; nothing was put to the test"):
        phase0.test_roles_can_be_read(catalogued(Source(tmp_path, DATA / "versions.yaml")), no_evidence)


@pytest.mark.seen_to_fail("INF-39")
def test_a_package_that_nobody_has(evidence: Evidence) -> None:
    asked: list[str] = []

    def lacks(definition: Definition, wanted: Sequence[str]) -> str:
        asked.extend(wanted)
        return f"{definition.name} image: the mirror http://m lacks packages: E: Unable to locate package fio"

    with pytest.raises(AssertionError, match="node image: the mirror http://m lacks packages: E: Unable to locate"):
        phase0.test_packages_can_be_had(packages(content(), lacks), evidence)
    assert asked == ["fio"]
    with pytest.raises(AssertionError, match="no role asks for a package; nothing was put to the test"):
        phase0.test_packages_can_be_had(Packages(), evidence)


def test_packages_from_elsewhere_are_said_to_be(evidence: Evidence) -> None:
    phase0.test_packages_can_be_had(packages(catalogued(Source.shipped()), lambda *_: ""), evidence)
    assert "vm-beegfs: beegfs-client-dkms, beegfs-common" in evidence.items[2].content


@pytest.mark.seen_to_fail("INF-39")
def test_a_template_that_uses_a_name_that_nobody_gives(no_evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    def undefined(config: ClusterConfig) -> dict[str, str]:
        jinja2.Environment(undefined=jinja2.StrictUndefined).from_string("{{ nodse }}").render(nodes=config.nodes)
        return {}

    monkeypatch.setattr(phase0, "rendered", undefined)
    with pytest.raises(AssertionError, match="local: a template does not render: 'nodse' is undefined"):
        phase0.test_templates_render(SHIPPED, no_evidence)


@pytest.mark.seen_to_fail("INF-39")
@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"local/node01:/etc/hosts": "{{ node }}"}, r"local/node01:/etc/hosts: '\{\{ node \}\}' was not rendered"),
        ({"local/node01:domain.xml": "<domain>"}, r"local/node01:domain.xml: is no XML: no element found"),
        ({}, "local: nothing is rendered for its machines"),
    ],
)
def test_what_is_rendered_badly(made: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase0, "rendered", lambda _: made)
    with pytest.raises(AssertionError, match=said):
        phase0.test_templates_render([load_config("local", environ={})], Evidence())
    with pytest.raises(AssertionError, match="no configuration that ships has machines of ours; nothing was put"):
        phase0.test_templates_render([], Evidence())


@pytest.mark.seen_to_fail("INF-39")
def test_units_that_systemd_objects_to(evidence: Evidence) -> None:
    """What systemd-analyze 257 says of tests/data/provisioning/units; it exits with 0 for the first."""
    found = catalogued(world("units"))
    assert unit_names(found.images["node"].roles) == ["gone.service", "made.service"]
    typo = "/etc/systemd/system/made.service:2: Unknown key 'Afterwards' in section [Unit], ignoring."
    for said, status in ((typo, 0), ("Unit gone.service not found.", 1)):
        with pytest.raises(AssertionError) as caught:
            phase0.test_units_verify(found, saying(said, status), evidence)
        assert str(caught.value).startswith(f"node image: {said} (1 in all); expected nothing to object to")
    with pytest.raises(AssertionError, match="node image: systemd-analyze exited with 127"):
        phase0.test_units_verify(found, saying("", 127), evidence)
    with pytest.raises(AssertionError, match="no role brings, changes or enables a unit; nothing was put to the test"):
        phase0.test_units_verify(found, saying(units=()), evidence)


@pytest.mark.seen_to_fail("INF-40")
def test_a_role_that_no_image_has(evidence: Evidence) -> None:
    source = world("unused")
    with pytest.raises(AssertionError) as caught:
        phase0.test_every_role_is_used(catalogued(source), source, evidence)
    assert str(caught.value).startswith(f"{DATA}/unused/roles/left/role.yaml: no image has this role (and 0 more)")


@pytest.mark.seen_to_fail("INF-40")
def test_a_pattern_that_matches_nothing(evidence: Evidence) -> None:
    """As the playbook for groups that the inventory did not have."""
    found, local = catalogued(world("stranger")), load_config("local", environ={})
    node = found.images["node"]
    assert served(node) == {"computes": ["slurmd.service"]}
    with pytest.raises(AssertionError) as caught:
        phase0.test_every_pattern_matches_a_machine(local, node, found, SHIPPED, evidence)
    assert str(caught.value).startswith("node image: slurmd.service is for machines of role 'computes', which no conf")
    with pytest.raises(AssertionError, match="no unit is for one role of machines only; nothing was put to the test"):
        phase0.test_every_pattern_matches_a_machine(local, node, content(), SHIPPED, evidence)


@pytest.mark.seen_to_fail("INF-40")
def test_a_machine_whose_role_starts_nothing(evidence: Evidence) -> None:
    source = Source.shipped()
    storage = load_config("beegfs", environ={})
    with pytest.raises(AssertionError, match=r"node01: role 'storage' starts nothing of the vm image, expected a unit"):
        phase0.test_every_pattern_matches_a_machine(storage, source.define("vm"), catalogued(source), SHIPPED, evidence)


WORDS = Retired(version=1, product=("oldname",), roles=("some-base", "other-base"), archives=("old/list.md",))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name, text in {
        "old/list.md": "OldName and some-base\n",
        "reports/run.txt": "oldname\n",
        ".git/config": "oldname\n",
        "README.md": "A product.\nSee the role\n",
    }.items():
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_text(text)
    return tmp_path / "top"


@pytest.mark.seen_to_fail("INF-39", "INF-44")
def test_a_retired_word(top: Path, evidence: Evidence) -> None:
    phase0.test_no_retired_product_name(WORDS, sources(top), top, evidence)
    (top / "README.md").write_text("A product.\nOnce OLDNAME.\nneeds: [Other-Base]\n")
    with pytest.raises(AssertionError, match=r"README\.md:2: says oldname \(and 0 more\); expected it nowhere outside"):
        phase0.test_no_retired_product_name(WORDS, sources(top), top, evidence)
    with pytest.raises(AssertionError, match=r"README\.md:3: says other-base"):
        phase0.test_no_retired_role_is_referred_to(WORDS, sources(top), top, evidence)
    (top / "README.md").rename(top / "oldname.md")
    with pytest.raises(AssertionError, match=r"oldname\.md: is named so: oldname \(and 1 more\)"):
        phase0.test_no_retired_product_name(WORDS, sources(top), top, evidence)
    with pytest.raises(AssertionError, match="holds no file; nothing was put to the test"):
        phase0.test_no_retired_product_name(WORDS, (), top, evidence)


def test_the_words_that_ship_are_two_roles_and_a_name() -> None:
    words = retired()
    assert (len(words.product), len(words.roles)) == (1, 2)
    top = product()
    listed = {path.relative_to(top).as_posix() for path in sources(top)}
    assert {"README.md", "configs/checks.yaml", "suites/phase0/_retired.py", ".ci/run"} <= listed
    assert not [name for name in listed if "__pycache__" in name or name.startswith((".git/", ".venv/", "reports/"))]


@pytest.mark.seen_to_fail("INF-39")
def test_an_image_without_a_package_that_another_has(evidence: Evidence) -> None:
    """What was built of the roles as they are must have what they ask for, each image by itself."""
    found = content()
    store = Store()
    store.folder.mkdir(parents=True)
    for name, has in (("node", {"fio": "3.39-1"}), ("twin", {})):
        node = found.images["node"]
        definition = node if name == "node" else replace(node, name=name)
        digest = digest_of(own_part(definition))
        with store.building(name, digest) as place:
            (place / "root").mkdir()
            store.finish(place, {"name": name, "digest": digest, "packages": has, **describe(place / "root")})
        found = replace(found, images={**found.images, name: definition})
    with pytest.raises(AssertionError, match="^twin image: has no fio, which a role asks for"):
        phase0.test_packages_can_be_had(packages(found, lambda *_: "apt is not asked"), evidence)


needs_shellcheck = pytest.mark.skipif(not SHELLCHECK, reason="apt-get install shellcheck")


def script(folder: Path, name: str, text: str, says: str = "") -> None:
    """A role with one script, and what INF-39 says of it; nothing where it is sound."""
    path = folder / "roles/top/files" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    source = Source(folder, DATA / "versions.yaml")
    if not says:
        phase0.test_scripts_are_sound(source, SHELLCHECK, Evidence())
        return
    with pytest.raises(AssertionError, match=rf"^{re.escape(str(path))}:? ?{says}.*; expected nothing to object to"):
        phase0.test_scripts_are_sound(source, SHELLCHECK, Evidence())


@needs_shellcheck
def test_scripts_that_ship_pass(evidence: Evidence) -> None:
    phase0.test_scripts_are_sound(Source.shipped(), SHELLCHECK, evidence)
    listed = evidence.items[0].content.splitlines()
    for one in ("prolog: sh", "epilog: sh", "init: sh", "diagnose.py: python", "90-environment.sh: sh"):
        assert [line for line in listed if line.endswith(f"/{one}")], one


@needs_shellcheck
@pytest.mark.seen_to_fail("INF-39")
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("prolog", "#!/bin/sh\nif true; then\n", r"\d+: Syntax error: end of file unexpected"),
        ("lib.sh", "echo $((1\n", r"\d+: Syntax error"),
        ("tool", "#!/usr/bin/env bash\nx=(1 2\n", r".*syntax error|.*unexpected"),
        ("tool", '#!/bin/bash\ncd "$1"\nls\n', r"2:1: warning: Use 'cd .* \[SC2164\]"),
        ("init", "#!/bin/busybox sh\nx=(1 2)\n", r".*Syntax error"),
        ("tool", "#!/bin/sh\n[[ $1 = x ]]\n", r"2:1: warning: In POSIX sh, \[\[ \]\] is undefined. \[SC3010\]"),
        ("look.py", "def look(:\n", "1: invalid syntax"),
        ("look", "#!/usr/bin/python3 -IS\nx = 1\n  y = 2\n", "3: unexpected indent"),
        ("look", "#!/usr/bin/python3\n\0", "1: .*null bytes"),
    ],
)
def test_a_script_with_a_mistake(tmp_path: Path, name: str, text: str, says: str) -> None:
    script(tmp_path, "sound", "#!/bin/sh\necho well\n")
    script(tmp_path, name, text, says)


@pytest.mark.seen_to_fail("INF-39")
def test_scripts_that_nobody_looked_at(tmp_path: Path, evidence: Evidence) -> None:
    with pytest.raises(
        AssertionError, match=r"^localhost: no program shellcheck, so that \d+ scripts .*; do: apt-get in"
    ):
        phase0.test_scripts_are_sound(Source.shipped(), "", evidence)
    (tmp_path / "roles").mkdir()
    with pytest.raises(AssertionError, match="roles: no role brings a script; nothing was put to the test"):
        phase0.test_scripts_are_sound(Source(tmp_path, DATA / "versions.yaml"), SHELLCHECK, evidence)


def test_what_prometheus_fills_in_itself_is_no_template_of_ours() -> None:
    assert roles.unfinished("local/controller:/etc/rules.yml", "{{ $labels.instance }} of {{$value}}") == ""
    seen = roles.unfinished("local/controller:/etc/rules.yml", "{{ $labels.instance }} of {{ cluster }}")
    assert seen == "local/controller:/etc/rules.yml: '{{ cluster }}' was not rendered, expected no template in it"
