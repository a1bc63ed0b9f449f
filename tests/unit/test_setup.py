"""The set-up of a machine installs what is missing, once, and names what it can not install."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environment import outside_of_make
from tests.readme import ROOT

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


def test_setup_asks_fresh_lists_for_what_old_ones_do_not_know(host: Host) -> None:
    """A machine that was just made has none: Debian 13 is to get there what Debian 12 does not have."""
    host.root = True
    (host.folder / "provisioning/host/packages").write_text("fio fio\n?virtiofsd virtiofsd\n?newer newer\n")
    host.program("apt-cache", '#!/bin/sh\n[ "$*" = "show virtiofsd" ] && [ -e "$STATE/lists" ]\n')
    host.program("apt-get", APT.replace("*' update '*)", """*' update '*) : >"$STATE/lists";"""))
    assert "setup: installing Debian packages: fio virtiofsd\n" in host.setup().stdout
    assert [line.split()[-2] for line in host.log if line.startswith("apt-get") and " update " in line] == ["update"]
    # Where all is there that is known, nothing is asked for.
    for name in ("fio", "virtiofsd"):
        (host.programs / f"installed-{name}").touch()
    (host.programs / "lists").unlink()
    (host.programs / "log").unlink()
    assert host.setup().returncode == 0
    assert not [line for line in host.log if line.startswith("apt-get")]


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
    (host.folder / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"))
    env = {**outside_of_make(), "PATH": f"{host.programs}:/usr/bin:/bin", "STATE": str(host.programs)}
    script = host.folder / "provisioning/host/setup"
    script.chmod(0o755)
    done = subprocess.run(
        ["make", "integration"], cwd=host.folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "integration: not run: making machines needs root: sudo make integration" in done.stderr
