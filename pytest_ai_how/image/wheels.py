"""Python packages from wheels: fetched by this machine's pip, held to a lock, installed in the root without network.

Only fetching uses the network, from wherever pip is configured to (pip.conf(5), ``PIP_*``). The wheels are kept in a
folder of the cache, and while all of a lock lie there nothing is asked for. What runs in the root is pip's own code
under the root's interpreter: so scripts name that interpreter, and nothing is compiled for another one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import CommandError, HostError, ImageError
from pytest_ai_how.image.bootstrap import disk_full
from pytest_ai_how.image.definitions import LoadedRole
from pytest_ai_how.image.lock import Lock
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.progress import Progress
from pytest_ai_how.shell import Result

#: The virtual environment that the role ``python`` makes.
VENV = "/venv"
_PYTHON = f"{VENV}/bin/python3"
# Where wheels and pip lie in the root while they are installed.
_INSIDE = "/var/cache/ai-how"
# An index that says nothing for this many seconds is given up, at the second time.
_PATIENCE = ("--timeout", "20", "--retries", "1")
_STRICT = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--progress-bar", "off")
# How pip finds its index and its way there.
_PASSED_ON = re.compile(
    r"PIP_\w+|(HTTPS?|ALL|NO)_PROXY|REQUESTS_CA_BUNDLE|SSL_CERT_(FILE|DIR)|HOME|XDG_CONFIG_\w+", re.I
)
_ABOUT = "import os, platform, sys; print(*sys.version_info[:2], platform.machine(), os.confstr('CS_GNU_LIBC_VERSION'))"
# unchecked-hash (PEP 552): valid whatever the time stamps of the sources, which the build sets, and never looked up.
# -f: an interpreter that starts imports what .pth files name (setuptools'), and writes that with its source's time.
_COMPILE = ("-m", "compileall", "-q", "-f", "-j", "0", "--invalidation-mode", "unchecked-hash")
_BROKE = "Traceback (most recent call last)"
_UNREACHED = re.compile(
    r"connection broken by|Connection(Refused)?Error|Max retries exceeded|ProxyError|SSLError|Could not fetch URL|"
    r"HTTP error"
)


@dataclass(frozen=True)
class Wheels:
    """Installs what locks name; ``folder`` keeps the wheels, ``place`` is the build's own folder.

    ``alone`` is held while something is fetched into ``folder``.
    """

    folder: Path
    place: Path
    sandbox: Sandbox
    alone: Callable[[], AbstractContextManager[None]]
    progress: Progress
    subject: str

    def install(self, loaded: LoadedRole, root: Path) -> None:
        """Install the packages of a role's lock into the virtual environment in ``root``.

        Raises ImageError naming package, line of the lock and cure; HostError when there is no pip here.
        """
        lock = loaded.lock
        if lock is None:
            return
        wheels = self.fetch(lock, self._platform(loaded, root))
        inside = root / _INSIDE.lstrip("/")
        try:
            shutil.copytree(find_pip(), inside / "pip", ignore=shutil.ignore_patterns("__pycache__"))
            wheels.rename(inside / "wheels")
            shutil.copyfile(lock.file, inside / "lock")
            self.progress.say(self.subject, f"installing {len(lock.packages)} Python packages")
            what = (
                "--isolated",
                "install",
                "--root-user-action",
                "ignore",
                "--no-compile",
                "--disable-pip-version-check",
            )
            where = ("--no-index", "--find-links", f"{_INSIDE}/wheels", "-r", f"{_INSIDE}/lock")
            with lent(certificates(), root):
                self._inside(loaded, root, f"{_INSIDE}/pip", *what, *_STRICT, *where)
        finally:
            shutil.rmtree(inside, ignore_errors=True)
        self.progress.say(self.subject, "compiling them")
        self.compile(loaded, root)

    def compile(self, loaded: LoadedRole, root: Path) -> None:
        """Byte-compile what lies in the virtual environment in ``root``. Raises ImageError when that breaks down.

        Files that are no Python of this version are counted as failures, and nobody imports them.
        """
        folders = [f"/{folder.relative_to(root)}" for folder in sorted(root.glob(f"{VENV[1:]}/lib/python3*"))]
        self._inside(loaded, root, *_COMPILE, *folders, ends=(0, 1))

    def _platform(self, loaded: LoadedRole, root: Path) -> tuple[str, ...]:
        """The options that name the interpreter and the platforms whose wheels run in ``root``, newest first."""
        said = self._inside(loaded, root, "-c", _ABOUT).stdout
        return platform_options(said, f"role {loaded.name}")

    def fetch(self, lock: Lock, platform: Sequence[str]) -> Path:
        """A folder in ``place`` with exactly the wheels that the lock names, for pip's options ``platform``.

        Raises ImageError naming package, line of the lock and cure.
        """
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if wheels := self._kept(lock, platform):
            return wheels
        self.progress.say(self.subject, f"fetching {len(lock.packages)} Python packages")
        with self.alone():
            into = ("--dest", str(self.folder), "--find-links", str(self.folder))
            try:
                self._download(lock, platform, *into, *_PATIENCE)
            except CommandError as error:
                raise self._explain(error.result, lock) from error
        if wheels := self._kept(lock, platform):
            return wheels
        raise ImageError(str(self.folder), f"pip fetched what {lock.file.name} names, and does not find it there")

    def _kept(self, lock: Lock, platform: Sequence[str]) -> Path | None:
        wheels = self.place / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        try:
            self._download(lock, platform, "--dest", str(wheels), "--no-index", "--find-links", str(self.folder))
        except CommandError as error:
            if "No space left on device" in error.result.stdout:
                raise self._explain(error.result, lock) from error
            return None
        return wheels

    def _download(self, lock: Lock, platform: Sequence[str], *how: str) -> None:
        env = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        argv = (sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *_STRICT, *platform, *how)
        self.sandbox.run((*argv, "-r", str(lock.file)), env=env, keep=None)

    def _inside(self, loaded: LoadedRole, root: Path, *args: str, ends: tuple[int, ...] = (0,)) -> Result:
        try:
            return self.sandbox.run((_PYTHON, *args), root=root, env={"PYTHONHASHSEED": "0"})
        except CommandError as error:
            said = error.result.stdout
            if "No space left on device" in said:
                raise disk_full(self.subject.split()[0], self.place) from error
            # What a program counts as failed it says in words of its own; one that broke down has done nothing.
            if error.result.returncode in ends and _BROKE not in said:
                return error.result
            last = " | ".join(said.splitlines()[-5:])
            what = f"`{error.result.command[:120]}` exited with {error.result.returncode}: {last}"
            raise ImageError(f"role {loaded.name}, Python packages", what) from error

    def _explain(self, result: Result, lock: Lock) -> ImageError:
        if "No space left on device" in result.stdout:
            return disk_full(self.subject.split()[0], self.folder)
        return explain(result, lock)


def platform_options(said: str, where: str) -> tuple[str, ...]:
    """What pip is told of the interpreter that said ``3 11 x86_64 glibc 2.36``; no newer C library is asked for.

    Raises ImageError when it said something else. PEP 600: a wheel for an older C library runs on a newer one.
    """
    found = re.fullmatch(r"(3) (\d+) (\w+) glibc 2\.(\d+)", said.strip())
    if not found:
        raise ImageError(
            where, f"the root's interpreter says {said.strip()!r}", expected="such as '3 11 x86_64 glibc 2.36'"
        )
    machine = found[3]
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(int(found[4]), 4, -1)]
    names += [f"manylinux2014_{machine}", f"linux_{machine}"]
    options = ["--implementation", "cp", "--python-version", f"{found[1]}.{found[2]}"]
    return (*options, *(word for name in names for word in ("--platform", name)))


def explain(result: Result, lock: Lock) -> ImageError:
    """The one cause among all that a failed ``pip download`` (24 to 26) has said.

    Lines that are understood::

        WARNING: Retrying (Retry(total=0, …)) after connection broken by 'NewConnectionError(…)': /simple/filelock/
        ERROR: No matching distribution found for filelock==4.3.1
        ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated …
            filelock==4.3.1 from https://…/filelock-4.3.1-py3-none-any.whl:
                Expected sha256 77…
                     Got        01…
    """
    said = result.stdout
    if "DO NOT MATCH THE HASHES" in said:
        named = re.search(r"^ +(\S+)==(\S+) from (\S+?):?(?: \(.*)?$", said, re.MULTILINE)
        got = re.search(r"^ +Got +([0-9a-f]{64})$", said, re.MULTILINE)
        if named and got:
            return ImageError(
                lock.where(named[1]),
                f"{named[1]} {named[2]}: {named[3].rpartition('/')[2]} has sha256 {got[1]}",
                expected="one of the digests in the lock",
                cure="find out who changed the file, or why this index builds its own; only then compile the lock anew",
            )
    missing = re.search(r"No matching distribution found for (\S+?)==(\S+)", said)
    if missing:
        where, name, version = lock.where(missing[1]), missing[1], missing[2]
        if _UNREACHED.search(said):
            lines = [line.strip() for line in said.splitlines() if _UNREACHED.search(line)]
            seen = f"{name} {version} could not be fetched, the package index does not answer: {lines[-1][:300]}"
            return ImageError(
                where, seen, cure="check the network and pip's own settings: `pip config list`, PIP_INDEX_URL"
            )
        local = version.partition("+")[2]
        builds = (
            f"; builds named +{local} lie in an index of their own (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS)"
            if local
            else ""
        )
        return ImageError(
            where,
            f"{name} {version}: pip finds no wheel of it that runs in the image",
            expected="a wheel with one of the digests in the lock",
            cure=f"give pip an index that has it: `pip config list`, PIP_INDEX_URL{builds}",
        )
    last = " | ".join(line.strip() for line in said.splitlines()[-5:])
    return ImageError(str(lock.file), f"`pip download` exited with {result.returncode}: {last}")


@contextmanager
def lent(file: Path | None, root: Path) -> Iterator[None]:
    """Have a file of this machine in ``root``, at the same path, for the time of the block; one that is there stays."""
    copy = root / (file or root).relative_to("/")
    if file is None or not file.is_file() or copy.exists():
        yield
        return
    made = [folder for folder in copy.parents if not folder.exists()]
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)
    try:
        yield
    finally:
        copy.unlink()
        for folder in made:
            folder.rmdir()


def certificates() -> Path | None:
    """The certificates that this machine's pip reads when it starts (25.1), also when it is to ask nobody.

    None where they are part of pip itself. Debian's goes by the machine's own, which a root may lack.
    """
    found = Path(str(importlib.import_module("pip._vendor.certifi").where()))
    return None if found.is_relative_to(find_pip()) else found


def find_pip() -> Path:
    """The folder of this machine's pip. Raises HostError when there is none."""
    found = importlib.util.find_spec("pip")
    if found is None or found.origin is None:
        cure = f"{sys.executable} -m ensurepip"
        raise HostError(
            "localhost", f"{sys.executable} has no pip, which fetches the Python packages of images", cure=cure
        )
    return Path(found.origin).parent
