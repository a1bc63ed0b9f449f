"""Tell, as JSON, what Oumi's environment has: versions, modules that load, and the parts of Oumi's Python API.

look.py PACKAGE…
"""

import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from typing import Any

MODULES = ("transformers", "datasets", "accelerate", "peft", "trl")
API = ("train", "evaluate", "infer", "evaluate_async", "infer_interactive")


def module(name: str) -> dict[str, str]:
    """The version of a module that loads, or why it does not."""
    try:
        return {"version": str(importlib.import_module(name).__version__), "error": ""}
    except Exception as error:  # noqa: BLE001  whatever a module does when it is loaded
        return {"version": "", "error": f"{type(error).__name__}: {error}"}


def versions(names: list[str]) -> dict[str, str]:
    """The installed version of each package; '' of one that is not there."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


def main() -> dict[str, Any]:
    """Look at all of it."""
    program = shutil.which("oumi")
    if program is None:
        where = f"expected beside {sys.executable}; do: python -m pip install oumi there, or say absent: [oumi]"
        sys.exit(f"no command 'oumi' in {os.environ['PATH']}; {where}")
    said = subprocess.run([program, "--help"], check=False, capture_output=True, text=True)
    oumi = importlib.import_module("oumi")
    return {
        "versions": versions(sys.argv[1:]),
        "modules": {name: module(name) for name in MODULES},
        "api": [name for name in API if callable(getattr(oumi, name, None))],
        "status": said.returncode,
        "help": said.stdout,
        "prefix": sys.prefix,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
