"""Tell, as JSON, which packages are in this container, and what its Python can compute with.

Debian's packages are named by arguments; of Python's, those that lie in the virtual environment are told.
"""

import importlib
import importlib.metadata
import json
import subprocess
import sys
import sysconfig

form = "${Package}\t${Version}\t${db:Status-Status}\n"
listed = subprocess.run(
    ["dpkg-query", "--show", f"--showformat={form}"], check=False, capture_output=True, text=True
).stdout
rows = [line.split("\t") for line in listed.splitlines()]
installed = {row[0]: row[1] for row in rows if row[2:] == ["installed"]}
modules = {}
for name in ("numpy", "torch", "mpi4py"):
    try:
        modules[name] = importlib.import_module(name).__version__
    except ImportError:
        continue
wheels = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
found = {
    "packages": {name: installed[name] for name in sys.argv[1:] if name in installed},
    "wheels": {one.metadata["Name"]: one.version for one in wheels},
    "modules": modules,
}
if "torch" in modules:
    import torch

    found["cuda"] = torch.version.cuda
    found["nccl"] = torch.distributed.is_available() and torch.distributed.is_nccl_available()
print(json.dumps(found))
