"""What pip says when it can't fetch the packages of a lock becomes one cause, with the line of the lock and a cure."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import py_compile
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ai_how.errors import AiHowError, HostError, ImageError
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.lock import Lock, read_lock
from pytest_ai_how.image.sandbox import CommandError, Sandbox
from pytest_ai_how.image.wheels import Wheels, certificates, explain, find_pip, lent, platform_options
from pytest_ai_how.progress import Silent
from pytest_ai_how.shell import Result

#: pip 24.0 and 26.3, with names made neutral.
UNREACHED = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a "
    "new connection: [Errno -2] Name or service not known')': /simple/numpy/\n"
    "ERROR: Could not find a version that satisfies the requirement numpy==1.0 (from versions: none)\n"
    "ERROR: No matching distribution found for numpy==1.0\n"
)
MISSING = (
    "ERROR: Could not find a version that satisfies the requirement tiny-torch==2.1+cpu (from versions: 2.0, 2.1)\n"
    "ERROR: No matching distribution found for tiny-torch==2.1+cpu\n"
)
WRONG = (
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package "
    "versions, please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered "
    "with them.\n"
    "    numpy==1.0 from https://files.example.org/numpy-1.0-py3-none-any.whl (from -r packages.lock (line 5)):\n"
    f"        Expected sha256 {'c' * 64}\n"
    f"             Got        {'e' * 64}\n"
)


@pytest.fixture
def lock(sif_source: Source) -> Lock:
    return read_lock(sif_source.provisioning / "roles/torch/packages.lock")


@pytest.mark.parametrize(
    ("said", "line", "seen", "cure"),
    [
        (
            UNREACHED,
            ":5",
            "numpy 1.0 could not be fetched, the package index does not answer: WARNING: Retry",
            "PIP_IND",
        ),
        (MISSING, ":2", "tiny-torch 2.1+cpu: pip finds no wheel of it that runs in the image", "builds named +cpu lie"),
        (MISSING.replace("+cpu", ""), ":2", "tiny-torch 2.1: pip finds no wheel", "give pip an index that has it"),
        (WRONG, ":5", f"numpy 1.0: numpy-1.0-py3-none-any.whl has sha256 {'e' * 64}", "find out who changed the file"),
        ("ERROR: something else\n", "", "`pip download` exited with 1: ERROR: something else", ""),
    ],
)
def test_one_cause(lock: Lock, said: str, line: str, seen: str, cure: str) -> None:
    error = explain(Result(("pip",), 1, said), lock)
    assert error.where == f"{lock.file}{line}"
    assert seen in error.seen
    assert cure in error.cure


def test_platforms_are_those_of_the_roots_own_c_library_and_older(lock: Lock) -> None:
    options = platform_options("3 11 x86_64 glibc 2.36\n", "role torch")
    assert options[:4] == ("--implementation", "cp", "--python-version", "3.11")
    platforms = options[5::2]
    assert platforms[0] == "manylinux_2_36_x86_64"
    assert platforms[-3:] == ("manylinux_2_5_x86_64", "manylinux2014_x86_64", "linux_x86_64")
    assert len(platforms) == len(set(platforms)) == 34


@pytest.mark.parametrize("said", ["", "3 11 x86_64 musl 1.2", "2 7 x86_64 glibc 2.36", "No module named platform"])
def test_a_root_whose_interpreter_says_something_else(said: str) -> None:
    with pytest.raises(ImageError, match=r"^role torch: the root's interpreter says .*\n  expected: such as '3 11 x86"):
        platform_options(said, "role torch")


def test_a_host_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(HostError, match=f"^localhost: {sys.executable} has no pip(.|\n)*do: .* -m ensurepip"):
        find_pip()


def test_what_pip_reads_when_it_starts_is_lent_to_a_root_that_has_none(tmp_path: Path) -> None:
    """As Debian 13's pip reads /etc/ssl/certs/ca-certificates.crt, which the root of a container image lacks."""
    file, root = tmp_path / "etc/ssl/certs/all.crt", tmp_path / "root"
    file.parent.mkdir(parents=True)
    file.write_text("ours")
    copy = root / file.relative_to("/")
    kept = copy.parents[2]
    kept.mkdir(parents=True)

    def fails() -> None:
        with lent(file, root):
            assert copy.read_text() == "ours"
            raise ImageError("role x", "pip failed")

    with pytest.raises(ImageError):
        fails()
    assert kept.exists()
    assert not list(kept.iterdir()), "folders that were made for it are left"
    copy.parent.mkdir(parents=True)
    copy.write_text("the root's own")
    with lent(file, root):
        assert copy.read_text() == "the root's own"
    assert copy.exists()
    for nothing in (tmp_path / "none", None):
        with lent(nothing, root):
            assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["all.crt"]


@pytest.mark.parametrize(
    ("where", "lend"), [("/etc/ssl/certs/all.crt", True), ("{pip}/_vendor/certifi/all.pem", False)]
)
def test_certificates_that_are_part_of_pip_are_not_lent(
    monkeypatch: pytest.MonkeyPatch, where: str, *, lend: bool
) -> None:
    path = where.format(pip=find_pip())
    monkeypatch.setattr(importlib.import_module("pip._vendor.certifi"), "where", lambda: path)
    assert certificates() == (Path(path) if lend else None)


class Compiling(Sandbox):
    """Answers as an interpreter that ends with 1 and says this."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def run(self, argv: Any, **_: Any) -> Result:
        raise CommandError(Result(tuple(argv), 1, self.said))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("*** Error compiling '/venv/lib/python3.11/x.py'...\n  File \"/venv/lib/python3.11/x.py\", line 1\n", ""),
        (
            "Traceback (most recent call last):\n  File ...\nFileNotFoundError: [Errno 2] No such file: '/dev/shm'\n",
            r"role torch, Python packages: `.* compileall .* exited with 1: .*No such file: '/dev/shm'",
        ),
        ("*** OSError: [Errno 28] No space left on device\n", "the disk filled up"),
    ],
)
def test_files_that_are_no_python_are_passed_over_and_nothing_else_is(tmp_path: Path, said: str, error: str) -> None:
    wheels = Wheels(tmp_path, tmp_path, Compiling(said), nullcontext, Silent(), "torch image")
    role: Any = SimpleNamespace(name="torch")
    with nullcontext() if not error else pytest.raises(AiHowError, match=error):
        wheels.compile(role, tmp_path)


class Here(Sandbox):
    """Runs a root's interpreter as this one, in the root's folder."""

    def run(self, argv: Any, *, root: Path | None = None, **_: Any) -> Result:
        words = (f"{root}{one}" if one.startswith("/") else one for one in argv[1:])
        subprocess.run([sys.executable, *words], check=True)
        return Result(tuple(argv), 0)


def test_what_an_interpreter_compiled_when_it_started_is_compiled_anew(tmp_path: Path) -> None:
    source = tmp_path / "venv/lib/python3.11/site-packages/x.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n")
    compiled = Path(py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP) or "")
    assert compiled.read_bytes()[4:8] == b"\0\0\0\0"  # PEP 552: valid with the time of its source
    role: Any = SimpleNamespace(name="torch")
    Wheels(tmp_path, tmp_path, Here(), nullcontext, Silent(), "torch image").compile(role, tmp_path)
    assert compiled.read_bytes()[4:8] == b"\1\0\0\0"  # by a hash that nobody compares
