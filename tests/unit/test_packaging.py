"""What is declared is what is there: packages, entry points, CI, make targets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tests.environment import outside_of_make
from tests.readme import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
HEAVY = {"pydantic", "yaml", "fabric", "paramiko", "testinfra", "torch", "libvirt", "rich", "allure_commons", "jinja2"}


# packages


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    with_python = {
        "pytest_ai_how": "pytest_ai_how",
        "pytest_ai_how.fixtures": "fixtures",
        "pytest_ai_how.suites": "suites",
    }
    found = {"pytest_ai_how.configs", "pytest_ai_how.provisioning"}
    for top, folder in with_python.items():
        found |= packages(top, ROOT / folder)
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def packages(name: str, folder: Path) -> set[str]:
    """The import packages in ``folder``, which is itself ``name``."""
    return {
        ".".join((name, *path.parent.relative_to(folder).parts))
        for path in folder.rglob("*.py")
        if "payloads" not in path.parts  # programs that jobs run: data
    }


def test_all_programs_that_nodes_run_are_checked_by_mypy() -> None:
    makefile = MAKEFILE.replace("\\\n", "")
    [listed] = re.findall(r"^PROGRAMS = \$\(addprefix suites/,(.+)\)$", makefile, re.MULTILINE)
    folders = {path.parent for path in (ROOT / "suites").rglob("payloads/**/*.py")}
    assert len(folders) > 5
    assert {f"suites/{name}" for name in listed.split()} == {str(folder.relative_to(ROOT)) for folder in folders}


def test_every_import_package_says_that_it_is_one() -> None:
    places = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
    for name in set(SETUPTOOLS["packages"]) - {"pytest_ai_how.configs", "pytest_ai_how.provisioning"}:
        top = max((one for one in places if name == one or name.startswith(f"{one}.")), key=len)
        folder = places[top].joinpath(*name.removeprefix(top).strip(".").split("."))
        assert (folder / "__init__.py").is_file(), name


def test_entry_points_lead_somewhere() -> None:
    module, _, name = PROJECT["project"]["scripts"]["pytest-ai-how"].partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
    assert (
        (ROOT / PROJECT["project"]["entry-points"]["pytest11"]["ai_how"].replace(".", "/")).with_suffix(".py").exists()
    )


def test_what_is_required_is_pinned_for_development() -> None:
    """Else the environment would change under `make` from one day to the next."""
    pinned = {
        canonical(line.partition("==")[0])
        for line in (ROOT / "configs/constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["dev"]]
    names = {canonical(match[0]) for one in wanted if (match := re.match(r"[\w.-]+", one))}
    assert len(names) > 10
    assert names - pinned == set()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_plugin_and_its_fixtures_import_nothing_heavy() -> None:
    """Whoever has the package installed pays for this in each pytest session."""
    program = (
        "import sys, importlib, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_ai_how.plugin as plugin\n"
        "for name in plugin.pytest_plugins: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})\n"
        "print(len([name for name in sys.modules if name.startswith('pytest_ai_how.fixtures.')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    new, fixtures = done.stdout.splitlines()
    assert int(fixtures) >= 10
    assert set(new.split()) & HEAVY == set()


# make and CI


def test_every_target_has_its_line_in_help_and_is_phony() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, env=outside_of_make(), capture_output=True, text=True, check=True)
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(listed) == TARGETS
    assert all(len(text) > 8 for text in listed.values())
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) == TARGETS


def test_make_test_does_the_cheap_things_first() -> None:
    assert "\ntest: lint types unit integration  ##" in MAKEFILE


def steps() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each step of the workflow with its job's name and the job."""
    return [(name, job, step) for name, job in WORKFLOW["jobs"].items() for step in job["steps"]]


def test_every_make_of_the_workflow_is_a_target_for_each_entry_of_the_matrix() -> None:
    called = {
        target
        for _, job, step in steps()
        for text in expanded(step.get("run", ""), job)
        for target in re.findall(r"\bmake (\S+)", text)
    }
    # `make` is also the name of a Debian package.
    assert {"lint", "types", "unit", "wheel", "validate", "integration"} <= called
    assert called - {"git", "--"} <= TARGETS


def expanded(text: str, job: dict[str, Any]) -> list[str]:
    """The text with the values of the job's matrix, in each combination."""
    matrix = job.get("strategy", {}).get("matrix", {})
    found = []
    for values in product(*matrix.values()):
        one = text
        for name, value in zip(matrix, values, strict=True):
            one = one.replace("${{ matrix." + name + " }}", str(value))
        found.append(one)
    return found


def test_the_workflow_speaks_of_no_matrix_entry_that_is_not_there() -> None:
    for name, job in WORKFLOW["jobs"].items():
        used = set(re.findall(r"matrix\.(\w+)", yaml.safe_dump(job)))
        assert used == set(job.get("strategy", {}).get("matrix", {})), name


def test_the_workflow_covers_what_the_issue_of_ci_asks_for() -> None:
    matrices = {name: job.get("strategy", {}).get("matrix", {}) for name, job in WORKFLOW["jobs"].items()}
    assert matrices["static"]["step"] == ["lint", "types", "unit"]
    assert PROJECT["project"]["requires-python"].removeprefix(">=") in matrices["static"]["python"]
    assert matrices["cluster"]["debian"] == ["bookworm", "trixie"]
    # YAML 1.1 reads the key `on` as true.
    assert set(WORKFLOW[True]) >= {"push", "pull_request"}
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "exec make test"


def test_files_of_the_product_name_no_host_of_a_registry() -> None:
    """Where packages come from is for the machine to say; the hosts below explain something or are nobody's."""
    known = re.compile(
        r"(\w+\.)*(example(\.\w+)?|w3\.org|json-schema\.org|pytest\.org|127\.0\.0\.1|localhost|HOST)(:\d*)?"
    )
    # Where data sets are published is part of what they are.
    of_data = {"storage.googleapis.com", "www.cs.toronto.edu", "huggingface.co"}
    found: dict[str, list[str]] = {}
    seen = 0
    for folder in ("configs", "provisioning", "pytest_ai_how", "fixtures", "suites", ".github", ".ci", "Makefile"):
        for path in (ROOT / folder).rglob("*") if (ROOT / folder).is_dir() else [ROOT / folder]:
            # What Python compiles comes and goes while other tests run, under names that end in a number for a moment.
            if path.is_file() and "__pycache__" not in path.parts:
                seen += 1
                hosts = re.findall(r"\b(?:https?|ftp)://([\w.:-]+)", path.read_text(encoding="utf-8"))
                allowed = of_data if path == ROOT / "configs/data/sets.yaml" else set()
                if strange := [host for host in hosts if not known.fullmatch(host) and host not in allowed]:
                    found[str(path.relative_to(ROOT))] = strange
    assert seen > 150
    assert found == {}
