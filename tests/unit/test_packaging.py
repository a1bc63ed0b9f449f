"""What is declared is what is there: packages, entry points, CI, make targets, set-up of a machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def test_the_programs_of_training_and_of_mpi_are_checked_by_mypy() -> None:
    [listed] = re.findall(r"^PROGRAMS = \$\(addprefix suites/,(.+)\)$", MAKEFILE, re.MULTILINE)
    folders = {
        path.parent for phase in ("phase5", "mlops") for path in (ROOT / "suites" / phase).rglob("payloads/**/*.py")
    }
    assert folders
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


def outside_of_make() -> dict[str, str]:
    """The environment without what a make that runs us put into it: a make below would speak of folders."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}


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


# provisioning/host/setup

PACKAGES = "python3-venv python3\nmmdebstrap mmdebstrap\nkeys /nowhere/keys.gpg\n"
DPKG = """#!/bin/sh
for name; do :; done
[ -f "$STATE/installed-$name" ] && printf installed || exit 1
"""
APT = """#!/bin/sh
echo "apt-get $*" >>"$STATE/log"
case " $* " in
    *' update '*) exit "${APT_UPDATE:-0}" ;;
    *' install '*)
        [ "${APT_INSTALL:-0}" = 0 ] || { echo 'E: Unable to locate package' >&2; exit 100; }
        for name; do : >"$STATE/installed-$name"; done ;;
esac
"""
PYTHON = """#!/bin/sh
echo "python $*" >>"$STATE/log"
case $* in
    '-c '*) exit "${PYTHON_OLD:-0}" ;;
    -V) echo 'Python 3.99.0' ;;
    '-m venv '*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    '-m pip '*) exit "${PIP:-0}" ;;
esac
"""


@dataclass
class Host:
    """A copy of the checkout's set-up, and a machine of pretended programs; ``root`` says who runs it."""

    folder: Path
    programs: Path
    root: bool = False

    def program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def without(self, name: str) -> None:
        (self.programs / name).unlink()

    def setup(self, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the set-up."""
        self.program("id", f"#!/bin/sh\necho {0 if self.root else 1000}\n")
        env = {"PATH": str(self.programs), "STATE": str(self.programs), "HOME": str(self.folder), **environ}
        script = self.folder / "provisioning/host/setup"
        return subprocess.run(["/bin/sh", str(script)], env=env, capture_output=True, text=True, check=False)

    @property
    def log(self) -> list[str]:
        path = self.programs / "log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def made(self) -> bool:
        return (self.folder / ".venv/.made-from").exists()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine where nothing is installed but what a shell script needs."""
    folder, programs = tmp_path / "checkout", tmp_path / "bin"
    (folder / "provisioning/host").mkdir(parents=True)
    (folder / "configs").mkdir()
    programs.mkdir()
    for name in ("provisioning/host/setup", "pyproject.toml", "configs/constraints.txt"):
        (folder / name).write_text((ROOT / name).read_text(encoding="utf-8"))
    (folder / "provisioning/host/packages").write_text(f"# a comment\n\n{PACKAGES}")
    for name in ("cat", "cut", "dirname", "sha256sum", "mkdir", "cp", "rm"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    found = Host(folder, programs)
    for name, text in (("dpkg-query", DPKG), ("apt-get", APT), ("python3", PYTHON)):
        found.program(name, text)
    return found


def test_setup_installs_what_is_missing_once(host: Host) -> None:
    host.root = True
    first = host.setup()
    assert first.returncode == 0, first.stderr
    assert "setup: installing Debian packages: python3-venv mmdebstrap keys" in first.stdout
    assert next(line for line in host.log if " install " in line).endswith("python3-venv mmdebstrap keys")
    assert first.stdout.splitlines()[-1] == "setup: ready"
    (host.programs / "log").unlink()
    second = host.setup()
    assert second.stdout.endswith("setup: ready\n")
    assert [line for line in host.log if "install" in line or "venv" in line.split()] == []


def pip_target(host: Host) -> str:
    return next(line for line in host.log if line.startswith("python -m pip")).rsplit("checkout", 1)[1]


def test_setup_installs_libvirt_python_only_with_its_headers(host: Host) -> None:
    """Without them it can't be compiled, and all else is to work."""
    assert "setup: no libvirt-dev, left out: driver libvirt\n" in host.setup().stdout
    assert pip_target(host) == "[dev]"
    (host.programs / "log").unlink()
    host.program("pkg-config", '#!/bin/sh\n[ "$*" = "--exists libvirt" ]\n')
    assert "installing Python packages" in host.setup().stdout
    assert pip_target(host) == "[dev,libvirt]"


def test_setup_leaves_out_what_this_debian_does_not_have(host: Host) -> None:
    host.root = True
    (host.folder / "provisioning/host/packages").write_text("fio fio\n?virtiofsd virtiofsd\n?newer newer\n")
    host.program("apt-cache", '#!/bin/sh\n[ "$*" = "show virtiofsd" ]\n')
    assert "setup: installing Debian packages: fio virtiofsd\n" in host.setup().stdout


def test_setup_installs_only_what_is_missing(host: Host) -> None:
    host.root = True
    for name in ("python3-venv", "keys"):
        (host.programs / f"installed-{name}").touch()
    assert "setup: installing Debian packages: mmdebstrap\n" in host.setup().stdout


def test_setup_without_root_names_what_is_missing_and_goes_on(host: Host) -> None:
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert "setup: needs root, left out: packages python3-venv mmdebstrap keys" in done.stdout
    assert (
        "run as root: apt-get update && apt-get install --no-install-recommends python3-venv mmdebstrap" in done.stdout
    )
    assert not [line for line in host.log if line.startswith("apt-get")]
    assert host.made


@pytest.mark.parametrize("broken", ["APT_UPDATE", "APT_INSTALL"])
def test_setup_says_what_to_run_when_apt_fails(host: Host, broken: str) -> None:
    host.root = True
    done = host.setup(**{broken: "100"})
    assert done.returncode == 1
    assert (
        "setup: Debian packages could not be installed: python3-venv mmdebstrap keys; to see why, run: " in done.stderr
    )
    assert "apt-get update && apt-get install --no-install-recommends python3-venv mmdebstrap keys" in done.stderr
    assert not host.made


def test_setup_on_another_system_names_what_to_install_by_hand_and_goes_on(host: Host) -> None:
    """Without dpkg, a package is there if the program or file is that it is needed for."""
    for name in ("apt-get", "dpkg-query"):
        host.without(name)
    host.root = True
    done = host.setup()
    assert done.returncode == 0, done.stderr
    assert "setup: this is no Debian system (no apt-get), left out: mmdebstrap keys" in done.stdout
    assert host.made
    host.program("mmdebstrap", "#!/bin/sh\n")
    assert "left out: keys\n" in host.setup().stdout


def test_setup_refuses_a_python_that_is_too_old_and_says_what_to_install(host: Host) -> None:
    done = host.setup(PYTHON_OLD="1", PYTHON="python3")
    assert done.returncode == 1
    assert "setup: no Python 3.11 or newer with venv (tried: python3); run as root: apt-get install" in done.stderr
    assert not host.made


def test_setup_says_what_to_run_when_pip_fails_and_tries_again_the_next_time(host: Host) -> None:
    done = host.setup(PIP="1")
    assert done.returncode == 1
    assert "setup: Python packages could not be installed; to see why, run: " in done.stderr
    assert "--constraint" in done.stderr
    assert not host.made
    assert host.setup().returncode == 0
    assert host.made


@pytest.mark.parametrize("name", ["pyproject.toml", "configs/constraints.txt", "provisioning/host/setup"])
def test_setup_makes_the_environment_anew_when_what_it_was_made_from_changed(host: Host, name: str) -> None:
    host.setup()
    with (host.folder / name).open("a") as file:
        file.write("\n# changed\n")
    assert "setup: installing Python packages into " in host.setup().stdout
    assert "installing" not in host.setup().stdout.replace("apt-get install", "")


def test_setup_makes_the_environment_anew_when_python_changed(host: Host) -> None:
    host.setup()
    host.program("python3", PYTHON.replace("3.99.0", "3.99.1"))
    assert "setup: installing Python packages into " in host.setup().stdout


def test_integration_without_root_says_why_and_fails(host: Host) -> None:
    host.program("id", "#!/bin/sh\necho 1000\n")
    (host.folder / "Makefile").write_text(MAKEFILE)
    env = {**outside_of_make(), "PATH": f"{host.programs}:/usr/bin:/bin", "STATE": str(host.programs)}
    script = host.folder / "provisioning/host/setup"
    script.chmod(0o755)
    done = subprocess.run(
        ["make", "integration"], cwd=host.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "integration: not run: making machines needs root: sudo make integration" in done.stderr
