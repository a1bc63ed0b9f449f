"""Python packages are fetched by the real pip, held to their lock, and run under the interpreter of the root."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from pytest_ai_how.errors import ImageError
from pytest_ai_how.image.build import Builder
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.image.lock import read_lock
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.image.store import Store
from pytest_ai_how.image.wheels import Wheels, platform_options
from pytest_ai_how.progress import Silent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="images are built by root only")

BOOKWORM = platform_options("3 11 x86_64 glibc 2.36", "test")


def make_wheel(folder: Path, tag: str = "py3-none-any") -> Path:
    """A wheel of the package ``tiny`` with a program of the same name (binary distribution format, PyPA)."""
    folder.mkdir(exist_ok=True)
    files = {
        "tiny.py": "import sys\n\n\ndef main():\n    print('tiny of', sys.executable)\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: {tag}\n",
        "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
    }
    path = folder / f"tiny-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        record = ""
        for name, text in files.items():
            wheel.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
        wheel.writestr("tiny-1.0.dist-info/RECORD", f"{record}tiny-1.0.dist-info/RECORD,,\n")
    return path


def locked(wheel: Path) -> str:
    return f"# made for this test\ntiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture(autouse=True)
def own_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No index is asked but the one that a test names, whatever pip is told on this machine."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    # Nobody listens on the discard port.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")


def fetch(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "packages.lock"
    file.write_text(text)
    (tmp_path / "place").mkdir(exist_ok=True)
    with Sandbox() as sandbox:
        wheels = Wheels(tmp_path / "kept", tmp_path / "place", sandbox, nullcontext, Silent(), "box image")
        return wheels.fetch(read_lock(file), BOOKWORM)


def test_an_index_that_does_not_answer_and_wheels_that_are_kept(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match=r"packages\.lock:2: tiny 1\.0 could not be fetched, the package index does n"):
        fetch(tmp_path, locked(wheel))
    (tmp_path / "kept").mkdir(exist_ok=True)
    wheel.rename(tmp_path / "kept" / wheel.name)
    found = fetch(tmp_path, locked(tmp_path / "kept" / wheel.name))
    assert [path.name for path in found.iterdir()] == [wheel.name]


def test_a_wheel_with_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "elsewhere")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    text = locked(wheel)
    wheel.write_bytes(wheel.read_bytes() + b"more")
    with pytest.raises(
        ImageError, match=r"packages\.lock:2: tiny 1\.0: tiny-1\.0-py3-none-any\.whl has sha256 [0-9a-f]{64}"
    ):
        fetch(tmp_path, text)
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("tag", ["cp312-cp312-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_39_x86_64"])
def test_wheels_that_would_not_run_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    wheel = make_wheel(tmp_path / "elsewhere", tag)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        ImageError, match=r"packages\.lock:2: tiny 1\.0: pip finds no wheel of it that runs in the image"
    ):
        fetch(tmp_path, locked(wheel))


def test_a_root_has_the_packages_of_its_lock_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "elsewhere")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    world = {
        "images/node.yaml": "description: x\nkind: tree\nroles: [tiny]\ndisk: 0\nexclude: [/usr/share/doc/*]\n",
        "roles/tiny/role.yaml": (
            "description: x\npackages: [python3]\nwheels: packages.lock\n"
            "steps:\n  - run: [python3, -m, venv, --without-pip, /venv]\n"
        ),
        "roles/tiny/packages.lock": locked(wheel),
        "versions.yaml": "version: 1\nsuite: bookworm\ncomponents: [main]\nepoch: 1700000000\n",
    }
    for name, text in world.items():
        file = tmp_path / "world" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    source = Source(tmp_path / "world", tmp_path / "world/versions.yaml")
    image = Builder(source, Store(tmp_path / "cache/images")).ensure(["node"], Silent())["node"]
    assert image.manifest["wheels"] == {"tiny": "1.0"}
    said = subprocess.run(["chroot", image.path, "/venv/bin/tiny"], check=True, text=True, stdout=subprocess.PIPE)
    assert said.stdout == "tiny of /venv/bin/python3\n"
    (compiled,) = image.path.glob("venv/lib/python3.11/site-packages/__pycache__/tiny.cpython-311.pyc")
    # PEP 552: flags 1 in the second word mean that the source is never looked at.
    assert compiled.read_bytes()[4:8] == b"\x01\0\0\0"
    assert not list(image.path.glob("var/cache/ai-how*"))
