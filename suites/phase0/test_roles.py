"""What images are made of, before any is made: roles, with packages, units and templates, and words long retired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
import pytest

from pytest_ai_how.config.models import ClusterConfig
from pytest_ai_how.image.definitions import Definition, Source
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.shell import Result

from ._retired import Retired, said
from ._roles import Catalogued, Packages, rendered, served, unfinished, unused
from ._scripts import objections, scripts

#: Runs systemd-analyze over an image's units; returns their names and what it said.
Verify = Callable[[Definition], tuple[Sequence[str], Result]]


@pytest.mark.check("INF-39")
def test_roles_can_be_read(found_roles: Catalogued, evidence: Evidence) -> None:
    """Every role and image is understood, none needs itself, and no file comes from two roles of an image."""
    roles = found_roles.roles.values()
    evidence.attach("roles", "\n".join(f"{one.name}: needs {', '.join(one.role.needs) or 'nothing'}" for one in roles))
    assert not found_roles.wrong, "\n".join(found_roles.wrong)
    assert found_roles.images, "provisioning/images: no image is declared; nothing was put to the test"
    assert roles, "provisioning/roles: there is no role; nothing was put to the test"


@pytest.mark.check("INF-39")
def test_packages_can_be_had(found_packages: Packages, evidence: Evidence) -> None:
    """Each package that a role asks for is in the image that was built of it, or apt finds it in the mirror's lists."""
    built = "\n".join(f"{package}: in the {image} image" for package, image in sorted(found_packages.built.items()))
    evidence.attach("in images that are built", built or "none")
    evidence.attach("found by apt now", "\n".join(sorted(found_packages.listed)) or "none")
    elsewhere = (f"{image}: {', '.join(names)}" for image, names in found_packages.elsewhere.items())
    evidence.attach("not from Debian: from where a cluster's YAML says", "\n".join(elsewhere) or "none")
    assert not found_packages.wrong, "\n".join(found_packages.wrong)
    assert found_packages.built or found_packages.listed, "no role asks for a package; nothing was put to the test"


@pytest.mark.check("INF-39")
def test_templates_render(shipped: Sequence[ClusterConfig], evidence: Evidence) -> None:
    """Every file of every machine of every configuration that ships is rendered, with no name missing in a template."""
    made: dict[str, str] = {}
    for config in shipped:
        try:
            files = dict(rendered(config))
        except jinja2.TemplateError as error:
            raise AssertionError(f"{config.name}: a template does not render: {error}") from error
        assert files, f"{config.name}: nothing is rendered for its machines; expected their configuration"
        made.update(files)
    evidence.attach("rendered", "\n".join(f"{where}: {len(text)} characters" for where, text in made.items()))
    assert made, "no configuration that ships has machines of ours; nothing was put to the test"
    wrong = [what for where, text in made.items() if (what := unfinished(where, text))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.check("INF-39")
@pytest.mark.requires("owned")
def test_units_verify(found_roles: Catalogued, verify: Verify, evidence: Evidence) -> None:
    """Systemd finds nothing to object to in the units that roles bring, change or enable, image by image."""
    wrong, count = [], 0
    for name, definition in found_roles.images.items():
        if definition.spec.kind == "sif":
            continue
        units, result = verify(definition)
        count += len(units)
        evidence.result(result, f"{name} image: systemd-analyze verify")
        objections = [line for line in result.stdout.splitlines() if line.strip()]
        if not result.ok and not objections:
            objections = [f"systemd-analyze exited with {result.returncode}"]
        wrong += [f"{name} image: {line}" for line in objections]
    assert not wrong, (
        f"{'; '.join(wrong[:3])} ({len(wrong)} in all); expected nothing to object to, correct the role's unit"
    )
    assert count, "provisioning/roles: no role brings, changes or enables a unit; nothing was put to the test"


@pytest.mark.check("INF-39")
@pytest.mark.requires("owned")
def test_scripts_are_sound(role_source: Source, shellcheck: str, evidence: Evidence) -> None:
    """Every script that a role brings is understood by its language; those of shells, shellcheck warns of nothing."""
    folder = role_source.provisioning / "roles"
    found = scripts(folder)
    evidence.attach("scripts", "\n".join(f"{one.path.relative_to(folder)}: {one.language}" for one in found) or "none")
    assert found, f"{folder}: no role brings a script; nothing was put to the test"
    assert shellcheck, (
        f"localhost: no program shellcheck, so that {len(found)} scripts of roles were not looked at; expected it in "
        "PATH; do: apt-get install --no-install-recommends shellcheck"
    )
    wrong = [line for one in found for line in objections(one)]
    evidence.attach("objections", "\n".join(wrong) or "none")
    assert not wrong, (
        f"{wrong[0]} (and {len(wrong) - 1} more); expected nothing to object to, correct the role's script"
    )


@pytest.mark.check("INF-39")
def test_no_retired_role_is_referred_to(
    retired: Retired, sources: Iterable[Path], top: Path, evidence: Evidence
) -> None:
    """The two roles that one has replaced are gone, and nothing asks for them."""
    _nothing_says(retired.roles, retired, list(sources), top, evidence)


@pytest.mark.check("INF-44")
def test_no_retired_product_name(retired: Retired, sources: Iterable[Path], top: Path, evidence: Evidence) -> None:
    """Nothing of the product says the name that it had before."""
    _nothing_says(retired.product, retired, list(sources), top, evidence)


@pytest.mark.check("INF-40")
def test_every_role_is_used(found_roles: Catalogued, role_source: Source, evidence: Evidence) -> None:
    """Each role is part of an image."""
    names = role_source.role_names()
    evidence.attach("roles", "\n".join(names))
    assert names, "provisioning/roles: there is no role; nothing was put to the test"
    left = unused(found_roles, role_source)
    assert not left, f"{left[0]}: no image has this role (and {len(left) - 1} more); name it in an image, or remove it"


@pytest.mark.check("INF-40")
@pytest.mark.requires("owned")
def test_every_pattern_matches_a_machine(
    cluster_config: ClusterConfig, booted: Definition, found_roles: Catalogued, shipped: Sequence[ClusterConfig],
    evidence: Evidence,
) -> None:  # fmt: skip
    """What starts on machines of one role only has such machines, and each machine's role has something that starts."""
    patterns = {name: served(definition) for name, definition in found_roles.images.items()}
    lines = [f"{name}: {role}: {', '.join(units)}" for name, roles in patterns.items() for role, units in roles.items()]
    evidence.attach("units by image and role", "\n".join(lines) or "none")
    assert lines, "provisioning/roles: no unit is for one role of machines only; nothing was put to the test"
    known = {role for config in (*shipped, cluster_config) for node in config.nodes for role in node.roles}
    for name, roles in patterns.items():
        for role, units in roles.items():
            assert role in known, (
                f"{name} image: {units[0]} is for machines of role {role!r}, which no configuration has; "
                f"expected one of {', '.join(sorted(known))}"
            )
    _serves(cluster_config, booted.name, served(booted))


def _serves(config: ClusterConfig, image: str, units: Mapping[str, Sequence[str]]) -> None:
    for node in config.nodes:
        for role in node.roles:
            assert role in units, (
                f"{node.name}: role {role!r} starts nothing of the {image} image, expected a unit with "
                f"ConditionKernelCommandLine=ai_how.role={role}; take the role from the machine, or choose the storage "
                "or Slurm that it serves"
            )


def _nothing_says(words: Sequence[str], retired: Retired, files: Sequence[Path], top: Path, evidence: Evidence) -> None:
    evidence.attach("looked for", f"{', '.join(words)}\nin {len(files)} files below {top}\nbut for {retired.archives}")
    assert files, f"{top}: holds no file; nothing was put to the test"
    found = list(said(words, files, top, retired.archives))
    evidence.attach("found", "\n".join(found) or "nothing")
    assert not found, (
        f"{found[0]} (and {len(found) - 1} more); expected it nowhere outside of archives; "
        "say what it is called now, or list an archive in configs/retired.yaml"
    )
