#!/usr/bin/python3
"""Copy a file out of an installed Python package, whole or not at all, without importing the package.

python3 stage.py scikit-learn sklearn/datasets/data/digits.csv.gz /data/digits.csv.gz
"""

import importlib.util
import sys
from pathlib import Path

from files import write


def stage(distribution: str, path: str, target: str) -> None:
    """Copy ``path``, which begins with the package's name; ``distribution`` is what it is installed as."""
    package, _, rest = path.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"ModuleNotFoundError: {distribution} is not installed here, which brings {path}")
    write(Path(target), (Path(spec.submodule_search_locations[0]) / rest).read_bytes())


if __name__ == "__main__":
    stage(*sys.argv[1:])
