#!/usr/bin/python3
"""Tell, as JSON, what a process in a container sees: where it runs, as whom, with which interpreter and namespaces.

Of the environment only the names are told, and the values of variables that begin with AI_HOW_. Arguments are paths:
for each, what comes of writing a file below it, and what a file called "witness" there says.
"""

import errno
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def write(folder: str) -> str:
    """Write a file that tells who wrote it; return the name of the error, or OK."""
    try:
        (Path(folder) / "from-inside").write_text("written inside")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "OK"


def witness(folder: str) -> str | None:
    """What the file that the check put there says, None when it is not seen."""
    path = Path(folder) / "witness"
    return path.read_text() if path.is_file() else None


def reachable_cpus() -> list[int]:
    """The CPUs that this process can get itself onto: an affinity can be set anew, a cpuset can't be left."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return sorted(os.sched_getaffinity(0))


def others_environment() -> list[str]:
    """The names that the environment of any other process holds, and AI_HOW_SECRET if it is set anywhere in it.

    Apptainer's own process keeps its configuration there, with this text in it: it must not hold what is looked for.
    """
    secret = b"AI_HOW_SECRET" + b"="
    names: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if path.parent.name != str(os.getpid()):
            names.update(entry.split(b"=")[0].decode(errors="replace") for entry in content.split(b"\0") if entry)
            names.update({"AI_HOW_SECRET"} if secret in content else ())
    return sorted(names)


numpy = find_spec("numpy")
print(
    json.dumps(
        {
            "node": os.uname().nodename,
            "container": os.environ.get("APPTAINER_CONTAINER", ""),
            "user": os.getuid(),
            "pid": os.getpid(),
            "affinity": reachable_cpus(),
            "home": os.environ.get("HOME", ""),
            "folder": str(Path.cwd()),
            "interpreter": sys.executable,
            "prefix": sys.prefix,
            "numpy": numpy.origin if numpy else None,
            "namespaces": {path.name: str(path.readlink()) for path in Path("/proc/self/ns").iterdir()},
            "names": sorted(os.environ),
            "values": {name: value for name, value in os.environ.items() if name.startswith("AI_HOW_")},
            "others": others_environment(),
            "writes": {folder: write(folder) for folder in sys.argv[1:]},
            "witnesses": {folder: witness(folder) for folder in sys.argv[1:]},
        }
    )
)
