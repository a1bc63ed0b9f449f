"""Data sets where jobs read them: put on the shared storage once a run, each file with its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pytest_ai_how.data import Cache, DataSet, File, load_manifest
from pytest_ai_how.data.declared import DataError
from pytest_ai_how.data.manifest import data_set
from pytest_ai_how.launch import Launcher
from pytest_ai_how.launch.shared import Once

#: Seconds for a file of a data set to be read from a slow shared file system: a GiB at 2 MiB/s.
_READ = 600.0


def needed(*names: str) -> None:
    """Raise :class:`DataError` naming each file that the cache lacks or has wrong, and the command that cures it."""
    cache, manifest = Cache(), load_manifest()
    found = {name: cache.faults(name, data_set(manifest, name)) for name in names}
    if not any(found.values()):
        return
    raise DataError(
        str(cache.folder),
        "not whole: " + "; ".join(fault.removeprefix(f"{cache.folder}/") for one in found.values() for fault in one),
        expected=f"data sets {', '.join(names)}",
        cure=f"pytest-ai-how cache fill {' '.join(name for name in names if found[name])}; or --scale=smoke",
    )


def staged(launcher: Launcher, once: Once, name: str, from_package: Callable[[File, str], None]) -> tuple[str, DataSet]:
    """The folder of a data set on the shared storage, staged there once a run, and what it must consist of.

    Files come from the cache, or by ``from_package`` (file, path) from the image that trains. Raises
    :class:`~pytest_ai_how.errors.AiHowError` for what is not in the cache.
    """
    declared = Cache().known(name, data_set(load_manifest(), name))
    folder = f"{launcher.folder}/data-{name}"

    def put() -> Mapping[str, str]:
        launcher.query("mkdir", "-p", "--", folder)
        for file in declared.files:
            path = f"{folder}/{file.name}"
            if _is_there(launcher, path, file):
                continue
            if file.package:
                from_package(file, path)
            else:
                launcher.write(path, Cache().read(name, file))
        return {"folder": folder}

    return once.told(f"mlops-data-{name}", put)["folder"], declared


def _is_there(launcher: Launcher, path: str, file: File) -> bool:
    told = launcher.query("sha256sum", "--", path, check=False, timeout=_READ)
    return told.ok and told.stdout.split()[0] == file.sha256
