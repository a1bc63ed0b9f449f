"""The wheel alone, away from the checkout: complete, importable, and the same product."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environment import clean_environment
from tests.readme import ROOT

# Not part of what is built from: other people's, earlier products, and what running leaves.
_NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "reports", "tests"
)


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheel and what it depends on, and nothing of the checkout."""

    wheel: Path
    programs: Path
    folder: Path

    @property
    def names(self) -> set[str]:
        """The files in the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, in an empty folder with state of its own."""
        self.folder.mkdir(exist_ok=True)
        clean = clean_environment()
        env = {**clean, "XDG_STATE_HOME": str(self.folder / "state"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [str(self.programs / argv[0]), *argv[1:]],
            cwd=self.folder, env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build in a copy of the checkout, install without any download."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=_NOT_SOURCE)
    argv = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(folder / "source")]
    call(sys.executable, *argv)
    shutil.rmtree(folder / "source")  # nothing may be read from there later
    (wheel,) = folder.glob("*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    python = folder / "venv/bin/python"
    call(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    # What it depends on comes from the environment of the tests, less the checkout that is installed there.
    (folder / "dependencies").mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "pytest_ai_how" not in path.name:
            (folder / "dependencies" / path.name).symlink_to(path)
    (site / "dependencies.pth").write_text(f"{folder / 'dependencies'}\n")
    return Installed(wheel, folder / "venv/bin", folder / "elsewhere")


def call(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def files(folder: str, inside: str) -> set[str]:
    """The files below a folder of the checkout, as the wheel names them."""
    return {
        f"pytest_ai_how/{inside}/{path.relative_to(ROOT / folder)}"
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_all_code_and_data_and_nothing_else(installed: Installed) -> None:
    wanted = {
        f"pytest_ai_how/{path.relative_to(ROOT / 'pytest_ai_how')}"
        for path in (ROOT / "pytest_ai_how").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted |= files("fixtures", "fixtures") | files("suites", "suites") | files("provisioning", "provisioning")
    wanted |= {name for name in files("configs", "configs") if name.endswith((".yaml", ".json"))}
    inside = {name for name in installed.names if ".dist-info/" not in name}
    assert {"pytest_ai_how/py.typed", "pytest_ai_how/configs/checks.yaml"} <= wanted
    assert wanted - inside == set(), "missing in the wheel"
    assert inside - wanted == set(), "not in the checkout"


def test_nothing_in_the_wheel_leans_on_modes_of_files(installed: Installed) -> None:
    """A wheel does not keep modes; the recipe of an image has to come out the same without them."""
    program = "from pytest_ai_how.image import image_digest as d; print(*map(d, ('node', 'base', 'pytorch')))"
    ours = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert installed.run("python", "-c", program).stdout == ours.stdout
    assert len(ours.stdout.split()) == 3


def test_the_installed_package_is_the_one_that_is_imported(installed: Installed) -> None:
    program = "import pytest_ai_how.suites.phase6 as s, pytest_ai_how as p; print(p.__file__, s.__file__)"
    for path in installed.run("python", "-c", program).stdout.split():
        assert path.startswith(str(installed.programs.parent)), path


def test_the_suites_are_collected_by_name_and_nothing_is_made(installed: Installed) -> None:
    quiet = ("--cluster=local", "--collect-only", "-q", "-p", "no:cacheprovider")
    theirs = installed.run("python", "-m", "pytest", "--pyargs", "pytest_ai_how.suites.phase6", *quiet).stdout
    ours = subprocess.run(
        [sys.executable, "-m", "pytest", "suites/phase6", *quiet], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert len(collected(ours)) > 60
    assert collected(theirs) == collected(ours)
    assert list(installed.folder.iterdir()) == []


def collected(output: str) -> list[str]:
    return re.findall(r"test_task\w+\.py::\S+", output)


def test_the_command_line_works_from_the_wheel(installed: Installed) -> None:
    assert "usage: pytest-ai-how" in installed.run("pytest-ai-how", "--help").stdout
    assert re.search(r"^node +[0-9a-f]{12} ", installed.run("pytest-ai-how", "images", "list").stdout, re.MULTILINE)
    assert installed.run("pytest-ai-how", "status").stdout == "no clusters\n"
