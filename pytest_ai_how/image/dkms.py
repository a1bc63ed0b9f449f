"""Build kernel modules with DKMS for the kernel of an image, in a root that is thrown away, and prove that they fit.

The image gets the modules and what DKMS knows about them, so that ``dkms status`` on a machine tells the truth; the
kernel's headers and the compiler stay in the other root. A module that is not there, or that another kernel's headers
made, fails the image: on a machine it would only be a mount that does not work.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.apt import Apt
from pytest_ai_how.image.definitions import Definition
from pytest_ai_how.image.kernel import Kernel
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.progress import Progress

_TREE = "var/lib/dkms"
_MODULES = "usr/lib/modules"
# dkms(8): neither a package's own installation nor the headers' starts a build; it is started here, and watched.
_NO_AUTOINSTALL = "etc/dkms/no-autoinstall"
# What the headers of one kernel consist of (Debian 13).
_HEADERS = ("linux-headers-", "linux-kbuild-")
_KEPT_ERRORS = 6


@dataclass(frozen=True, slots=True)
class BuiltModule:
    """A module in an image: its version, the kernel it was built for and its file in the image."""

    name: str
    version: str
    release: str
    file: str


@dataclass(frozen=True, slots=True)
class _Bench:
    """The root in which the modules of ``image`` are built for ``release``."""

    image: str
    release: str
    root: Path
    sandbox: Sandbox

    def run(self, *argv: str) -> str:
        return self.sandbox.run(argv, root=self.root, keep=None).stdout


def build_modules(
    definition: Definition, kernel: Kernel, root: Path, apt: Apt, progress: Progress
) -> tuple[BuiltModule, ...]:
    """Build the modules that the roles of ``definition`` name and put them into ``root``; none named is no work.

    The packages with their source are installed in ``root`` already. Raises ImageError with the compiler's own words
    when a build fails, and with both kernels when what was built is not for ``kernel``.
    """
    names = tuple(name for loaded in definition.roles for name in loaded.role.dkms)
    if not names:
        return ()
    subject, sandbox = f"{definition.name} image", apt.sandbox
    bench = _Bench(definition.name, kernel.release, root.parent / "dkms", sandbox)
    sandbox.run(["cp", "--archive", "--reflink=auto", str(root), str(bench.root)])
    stamp = bench.root / _NO_AUTOINSTALL
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()
    progress.say(subject, f"fetching a compiler and the headers of {kernel.release}")
    _add_headers(bench, apt)
    built = []
    for name in names:
        progress.say(subject, f"building the module {name}")
        built.append(_build(bench, name))
    for module in built:
        _transfer(bench, module, root)
    sandbox.run(["depmod", kernel.release], root=root)
    for module in built:
        _prove(_Bench(definition.name, kernel.release, root, sandbox), module)
    shutil.rmtree(bench.root)
    return tuple(built)


def dependencies(depends: str) -> tuple[str, ...]:
    """The packages in a ``Depends`` field (deb-control(5)), of alternatives the first, without versions.

    >>> dependencies("linux-base (>= 4.12~), linux-kbuild-6.12.117+deb13, libelf1t64 (>= 0.144) | libelf1, gcc-14")
    ('linux-base', 'linux-kbuild-6.12.117+deb13', 'libelf1t64', 'gcc-14')
    """
    return tuple(clause.split()[0] for clause in depends.split(",") if clause.strip())


def check_vermagic(image: str, module: str, vermagic: str, release: str) -> None:
    """Raise ImageError unless ``module`` was built for ``release``.

    ``modinfo --field vermagic`` (kmod 34) says ``6.12.117+deb13-cloud-amd64 SMP preempt mod_unload modversions``.
    """
    made_for = vermagic.partition(" ")[0].strip() or "no kernel"
    if made_for != release:
        raise ImageError(
            f"{image} image",
            f"module {module} is built for {made_for}",
            expected=f"for {release}, the image's kernel",
            cure="see which kernel's headers it was built with, and build the image anew",
        )


def foreign_symbols(said: str, module: str) -> tuple[str, ...]:
    """What ``depmod --errsyms`` (kmod 34) complains about in ``module``; its lines about others are not of interest.

    ::

        depmod: WARNING: /lib/modules/6.12…/updates/dkms/beegfs.ko.xz needs unknown symbol kmem_cache_gone
        depmod: WARNING: /lib/modules/6.12…/updates/dkms/beegfs.ko.xz disagrees about version of symbol iget_locked
    """
    own = re.compile(rf"/{re.escape(module)}\.ko\S* ((?:needs unknown|disagrees about version of) symbol \S+)")
    return tuple(found[1] for line in said.splitlines() if (found := own.search(line)))


def is_installed(said: str, module: BuiltModule) -> bool:
    """Whether ``dkms status`` says so, without a warning about a difference.

    dkms 3.2: ``beegfs/7.4.7, 6.12.117+deb13-cloud-amd64, x86_64: installed``
    """
    line = rf"{re.escape(module.name)}/{re.escape(module.version)}, {re.escape(module.release)}, \S+: installed"
    return any(re.fullmatch(line, one.strip()) for one in said.splitlines())


def compiler_errors(log: Iterable[str]) -> list[str]:
    """The lines of a ``make.log`` that tell why: errors of the compiler, the linker and make; else the last ones."""
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if re.search(r"\b(fatal )?error:|undefined!|\*\*\*|No such file", line)]
    return (errors or lines)[:_KEPT_ERRORS] if errors else lines[-_KEPT_ERRORS:]


def _add_headers(bench: _Bench, apt: Apt) -> None:
    """Unpack the headers of the kernel and install the compiler that they name.

    Installed as a package they would bring the kernel's own, and that its initramfs tools.
    """
    wanted, unpacked, others = [f"linux-headers-{bench.release}"], set[str](), {"make"}
    while wanted:
        archives = apt.download(wanted)
        unpacked.update(wanted)
        apt.unpack(archives, bench.root)
        said = [bench.sandbox.run(["dpkg-deb", "--field", str(one), "Depends"], keep=None).stdout for one in archives]
        needed = {name for text in said for name in dependencies(text)}
        others |= {name for name in needed if not name.startswith("linux-")}
        wanted = sorted(name for name in needed - unpacked if name.startswith(_HEADERS))
    apt.install(bench.root, sorted(others))


def _build(bench: _Bench, name: str) -> BuiltModule:
    version = _version(bench, name)
    known = ("-m", name, "-v", version, "-k", bench.release)
    try:
        bench.run("dkms", "build", *known)
        bench.run("dkms", "install", "--no-depmod", *known)
    except CommandError as error:
        raise _failed(bench, name, version, error) from error
    found = sorted((bench.root / _MODULES / bench.release / "updates").rglob(f"{name}.ko*"))
    if len(found) != 1:
        seen = ", ".join(str(path.relative_to(bench.root)) for path in found) or "no file"
        raise ImageError(
            f"{bench.image} image", f"dkms installed {seen}", expected=f"one {name}.ko for {bench.release}"
        )
    module = BuiltModule(name, version, bench.release, f"/{found[0].relative_to(bench.root)}")
    _check(bench, module)
    headers = f"/{_MODULES}/{bench.release}/build/Module.symvers"
    said = bench.run("depmod", "--errsyms", f"--symvers={headers}", "--dry-run", bench.release)
    if wrong := foreign_symbols("\n".join(line for line in said.splitlines() if line.startswith("depmod:")), name):
        what = f"module {name} {'; '.join(wrong[:_KEPT_ERRORS])}"
        raise ImageError(f"{bench.image} image", what, expected=f"only symbols that {bench.release} exports")
    return module


def _version(bench: _Bench, name: str) -> str:
    """The version that the package has registered: the folder beside the kernels' links."""
    tree = bench.root / _TREE / name
    versions = sorted(path.name for path in tree.glob("*") if (path / "source").is_symlink())
    if len(versions) != 1:
        raise ImageError(
            f"{bench.image} image",
            f"{', '.join(versions) or 'no version'} of module {name} is registered with DKMS",
            expected="one, by the package that brings its source",
            cure="see the role's packages, and where the cluster's YAML says that they come from",
        )
    return versions[0]


def _failed(bench: _Bench, name: str, version: str, error: CommandError) -> ImageError:
    logs = sorted((bench.root / _TREE / name / version).rglob("make.log"), key=lambda path: path.stat().st_mtime)
    said = logs[-1].read_text(errors="replace").splitlines() if logs else error.result.stdout.splitlines()
    return ImageError(
        f"{bench.image} image",
        f"module {name} {version} does not build for {bench.release}: {' | '.join(compiler_errors(said))}",
        cure="take a release of it that supports this kernel (its release notes name the newest)",
    )


def _check(bench: _Bench, module: BuiltModule) -> None:
    vermagic = bench.run("modinfo", "--field", "vermagic", module.file)
    check_vermagic(bench.image, module.name, vermagic, bench.release)


def _transfer(bench: _Bench, module: BuiltModule, root: Path) -> None:
    """Copy the module, and what DKMS knows of it, but not the sources' object files."""
    place = root / module.file.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(bench.root / module.file.lstrip("/"), place)
    tree = Path(_TREE) / module.name
    shutil.rmtree(root / tree)
    shutil.copytree(bench.root / tree, root / tree, symlinks=True, ignore=shutil.ignore_patterns("build", "log"))


def _prove(image: _Bench, module: BuiltModule) -> None:
    """The image itself, without headers and compiler, says what it has."""
    vermagic = image.run("modinfo", "--set-version", module.release, "--field", "vermagic", module.name)
    check_vermagic(image.image, module.name, vermagic, module.release)
    said = image.run("dkms", "status", "-k", module.release)
    if not is_installed(said, module):
        raise ImageError(
            f"{image.image} image",
            f"`dkms status` says {said.strip() or 'nothing'!r}",
            expected=f"{module.name}/{module.version}, {module.release}, …: installed",
        )
