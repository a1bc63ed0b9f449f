"""Fetch Debian packages for a root that exists, with this machine's apt (2.6 and later), and install or unpack them.

apt keeps its lists and downloads in a folder of its own and never looks at this machine's packages. Only it uses the
network: what is installed is installed without, inside the root.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_ai_how.errors import CommandError, ImageError
from pytest_ai_how.image.bootstrap import APT_OPTIONS, explain, preferences, suites
from pytest_ai_how.image.definitions import Definition
from pytest_ai_how.image.family import check_family
from pytest_ai_how.image.host import KEYRING
from pytest_ai_how.image.origin import Elsewhere
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.shell import Result

# deb(5), invoke-rc.d(8): 101 is "action not allowed". Packages that are installed start nothing.
_POLICY = "#!/bin/sh\nexit 101\n"


@dataclass(frozen=True)
class Apt:
    """apt with its state in ``folder``; :meth:`open` makes one. Its errors are ImageErrors that name the cause.

    ``extra`` is the source of what Debian's ``mirror`` lacks. Where both have a package, the higher version is taken.
    """

    folder: Path
    definition: Definition
    mirror: str
    sandbox: Sandbox
    extra: Elsewhere | None = None

    @classmethod
    def open(
        cls, definition: Definition, folder: Path, mirror: str, sandbox: Sandbox, extra: Elsewhere | None = None
    ) -> Apt:
        """Read the lists of ``mirror`` for the suites of ``definition``, and those of the source ``extra``."""
        for part in ("lists/partial", "archives/partial", "files"):
            (folder / part).mkdir(parents=True)
        components = " ".join(definition.versions.components)
        debian = (f"deb [signed-by={KEYRING}] {mirror} {suite} {components}" for suite in suites(definition))
        lines = (*debian, extra.line) if extra else debian
        (folder / "sources.list").write_text("".join(f"{line}\n" for line in lines))
        (folder / "preferences").write_text(preferences(definition))
        (folder / "status").touch()
        (folder / "apt.conf").write_text("".join(f"{option};\n" for option in _settings(folder)))
        apt = cls(folder, definition, mirror, sandbox, extra)
        apt._run("apt-get", "--error-on=any", "update")
        return apt

    def newest(self, package: str) -> str:
        """The package that ``package``, which has no files, stands for: its only dependency.

        ``apt-cache depends linux-image-cloud-amd64`` (apt 2.6)::

            linux-image-cloud-amd64
              Depends: linux-image-6.12.117+deb13-cloud-amd64
        """
        said = self._run("apt-cache", "--important", "depends", package).stdout
        found = re.findall(r"^\s+Depends: (\S+)$", said, re.MULTILINE)
        if len(found) != 1:
            what = f"{package} depends on {', '.join(found) or 'nothing'}"
            raise ImageError(f"{self.definition.name} image", what, expected="one package, the newest kernel")
        return str(found[0])

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Exactly these packages, as files."""
        place = self.folder / "files"
        before = set(place.iterdir())
        self._run("env", f"--chdir={place}", "apt-get", "download", *packages)
        return sorted(set(place.iterdir()) - before)

    def simulate(self, packages: Sequence[str]) -> None:
        """Find ``packages`` and all that they depend on, for a root without any; fetch and install nothing."""
        self._run("apt-get", "--simulate", "install", *packages)

    def install(self, root: Path, packages: Sequence[str]) -> None:
        """Install ``packages`` into ``root``, with all that they depend on and that is not there yet.

        What is there is left as it is and fetched from nowhere, whoever has a higher version, unless one of the others
        depends on that. Only a root of Debian's family is taken.
        """
        check_family(root)
        shutil.copyfile(root / "var/lib/dpkg/status", self.folder / "status")
        self._run("apt-get", "--yes", "--download-only", "--no-upgrade", "install", *packages)
        archives = sorted((self.folder / "archives").glob("*.deb"))
        if not archives:
            return
        place, policy = root / "var/cache/ai-how", root / "usr/sbin/policy-rc.d"
        place.mkdir()
        policy.write_text(_POLICY)
        policy.chmod(0o755)
        try:
            for archive in archives:
                shutil.copyfile(archive, place / archive.name)
                archive.unlink()
            inside = [f"/var/cache/ai-how/{archive.name}" for archive in archives]
            options = (f"--path-exclude={pattern}" for pattern in self._exclude())
            self._run("dpkg", *options, "--install", *inside, root=root)
        finally:
            shutil.rmtree(place)
            policy.unlink()

    def unpack(self, archives: Iterable[Path], folder: Path) -> dict[str, str]:
        """Unpack ``archives`` into ``folder`` and configure nothing; their names and versions."""
        found = {}
        for archive in archives:
            self._run("dpkg-deb", "--extract", str(archive), str(folder))
            said = self._run("dpkg-deb", "--show", "--showformat=${Package}\t${Version}", str(archive)).stdout
            name, _, version = said.strip().partition("\t")
            found[name] = version
        return found

    def _exclude(self) -> tuple[str, ...]:
        of = self.definition.of
        return (*(of.spec.exclude if of else ()), *self.definition.spec.exclude)

    def _run(self, *argv: str, root: Path | None = None) -> Result:
        env = {"APT_CONFIG": str(self.folder / "apt.conf")}
        try:
            return self.sandbox.run(argv, root=root, env=env, keep=None)
        except CommandError as error:
            raise explain(error.result, self.definition.name, self.folder, self.mirror, self.extra) from error


def _settings(folder: Path) -> list[str]:
    """apt.conf(5). This machine's own settings and hooks are not read, as mmdebstrap does not either."""
    return [
        f'Dir::State "{folder}"',
        f'Dir::State::status "{folder}/status"',
        f'Dir::Cache "{folder}"',
        f'Dir::Etc::sourcelist "{folder}/sources.list"',
        f'Dir::Etc::preferences "{folder}/preferences"',
        *(f'Dir::Etc::{part} "/dev/null"' for part in ("main", "parts", "sourceparts", "preferencesparts")),
        # Everything lies in a folder that only root may enter.
        'APT::Sandbox::User "root"',
        'Dpkg::Use-Pty "false"',
        *APT_OPTIONS,
    ]
