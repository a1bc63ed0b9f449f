"""What mmdebstrap is told, and what is made of what it says (samples: mmdebstrap 1.3.5, apt 2.6.1 and 3.0.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.bootstrap import command, explain, milestones, preferences
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.models import PackageVersion
from pytest_ai_how.image.versions import check_versions, mismatch
from pytest_ai_how.shell import Result

MIRROR = "http://mirror.example.org/debian"


def test_the_command_names_suites_packages_and_timeouts(source: Source, tmp_path: Path) -> None:
    argv = command(source.define("node"), tmp_path / "root", MIRROR, tmp_path / "a pins")
    assert argv[-4:] == ["trixie", str(tmp_path / "root"), f"deb {MIRROR} trixie main", f"deb {MIRROR} sid main"]
    assert "--include=apptainer,fio,systemd" in argv
    assert '--aptopt=Acquire::http::Timeout "20"' in argv
    assert "--dpkgopt=path-exclude=/usr/share/doc/*" in argv
    hook = next(argument for argument in argv if argument.startswith("--setup-hook="))
    assert f"cp '{tmp_path / 'a pins'}' " in hook


def test_only_the_declared_package_comes_from_another_suite(source: Source) -> None:
    assert preferences(source.define("node")) == (
        "Package: *\nPin: release n=sid\nPin-Priority: 50\n\n"
        "Package: apptainer\nPin: release n=sid\nPin-Priority: 990\n"
    )


def test_milestones_are_few() -> None:
    said: list[str] = []
    line = milestones(said.append)
    for text in [
        "I: running apt-get update...",
        "Get:1 http://mirror.example.org/debian trixie InRelease [140 kB]",
        "0 upgraded, 8 newly installed, 0 to remove and 0 not upgraded.",
        "Need to get 99.3 MB of archives.",
        *(f"Setting up p{number} (1.0) ..." for number in range(8)),
    ]:
        line(text)
    assert said == [
        "reading the package lists",
        "8 packages to install",
        "downloading 99.3 MB",
        "set up 2 of 8 packages",
        "set up 4 of 8 packages",
        "set up 6 of 8 packages",
    ]


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        (
            "Err:1 http://127.0.0.1:9/debian trixie InRelease\n  Could not connect to 127.0.0.1:9 (127.0.0.1). - "
            "connect (111: Connection refused)\nE: Failed to fetch http://127.0.0.1:9/debian/dists/trixie/InRelease",
            MIRROR,
            "set AI_HOW_MIRROR to another mirror",
        ),
        ("cp: error writing: No space left on device", "FOLDER", "the disk filled up"),
        ("dpkg: error: failed to write (No space left on device)", "FOLDER", "MiB free now"),
        (
            "W: GPG error: NO_PUBKEY 0E98404D",
            "debian-archive-keyring.gpg",
            "install debian-archive-keyr",
        ),
        ("E: Unable to locate package nosuch", "node image", "lacks packages: E: Unable to locate package nosuch"),
        ("E: something new", "node image", "mmdebstrap exited with 25: E: something new"),
    ],
)
def test_the_cause_is_named(tmp_path: Path, line: str, where: str, what: str) -> None:
    error = explain(Result(("mmdebstrap",), 25, f"I: x\n{line}\n"), "node", tmp_path, MIRROR)
    assert where.replace("FOLDER", str(tmp_path)) in error.where
    assert what in str(error)


@pytest.mark.parametrize(
    ("version", "demand", "what"),
    [
        ("24.11.5-4+deb13u1", PackageVersion(series="24.11"), ""),
        ("24.110.5-4", PackageVersion(series="24.11"), "expected series 24.11"),
        ("23.11.5-4", PackageVersion(series="24.11"), "expected series 24.11"),
        ("1:10.0p1-7+deb13u4", PackageVersion(series="10.0"), ""),
        ("1.4.5-2", PackageVersion(at_least="1.4.2"), ""),
        ("1.4.10-1", PackageVersion(at_least="1.4.2"), ""),
        ("1.4.2~rc1-1", PackageVersion(at_least="1.4.2"), "expected at least 1.4.2"),
        ("1.3.9-1", PackageVersion(series="1.3", at_least="1.4.2"), "expected at least 1.4.2"),
    ],
)
def test_versions_are_compared_as_debian_does(version: str, demand: PackageVersion, what: str) -> None:
    assert mismatch(version, demand) == what


def test_every_wrong_version_is_named_at_once(source: Source) -> None:
    definition = source.define("node")
    check_versions(definition, {"apptainer": "1.4.5-2", "fio": "3.39-1", "systemd": "257.7-1"})
    with pytest.raises(ImageError) as caught:
        check_versions(definition, {"apptainer": "1.4.1-1", "fio": "3.38-1"})
    assert str(caught.value).startswith(
        "node image: systemd is not installed; apptainer is 1.4.1-1, expected at least 1.4.2; "
        "fio is 3.38-1, expected series 3.39\n  expected: the versions that configs/versions.yaml declares"
    )
