"""Where programs find PyTorch: in a container image, or by an interpreter of the machine itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_ai_how.errors import CommandTimeout, HostError
from pytest_ai_how.node import Node
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.shell import Result

#: What the programs that train import.
NEEDED = ("torch", "numpy", "sklearn", "tensorboard")
#: By what name pip knows a module, where it is another.
_PIP = {"sklearn": "scikit-learn"}
#: Seconds. A first import from a cold disk takes ten.
_IMPORTS_WITHIN = 120.0
_LOOK = """
import importlib, json, sys
found, lacks = {}, {}
for name in sys.argv[1:]:
    try:
        found[name] = str(getattr(importlib.import_module(name), "__version__", ""))
    except Exception as error:
        lacks[name] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps({"python": sys.version.split()[0], "found": found, "lacks": lacks}))
"""


@dataclass(frozen=True, slots=True)
class Runtime:
    """``python`` in the container image at the path ``image``, or of the machine itself where that is empty.

    For a :class:`~pytest_ai_how.launch.Task`: ``Task(argv=(runtime.python, …), image=runtime.image)``.
    """

    python: str
    image: str = ""

    def argv(self, *words: str, gpus: bool = False) -> tuple[str, ...]:
        """The command that runs ``python`` with ``words``, outside of any job; ``gpus``: the machine's are seen."""
        if not self.image:
            return (self.python, *words)
        return command("exec", self.image, self.python, *words, flags=("nv",) if gpus else ())


def own_interpreter(node: Node, python: str, modules: Sequence[str] = NEEDED) -> Runtime:
    """The machine's own interpreter, after a look that it has what is needed.

    Raises :class:`HostError` naming the interpreter, what it lacks, and how it gets that.
    """
    cure = f"{python} -m pip install {' '.join(_PIP.get(one, one) for one in modules)}, or name another under 'python'"
    try:
        told = node.run(python, "-c", _LOOK, *modules, check=False, timeout=_IMPORTS_WITHIN)
    except CommandTimeout as error:
        raise HostError(python, f"importing {', '.join(modules)} did not end: {error.seen}", cure=cure) from error
    if wrong := _wrong(told):
        raise HostError(python, wrong, expected=f"an interpreter that imports {', '.join(modules)}", cure=cure)
    return Runtime(python)


def _wrong(told: Result) -> str:
    """What :data:`_LOOK` found wrong; empty when nothing is. Libraries may have said something before it."""
    said = (told.stderr.strip() or told.stdout.strip() or "it says nothing").splitlines()[-1]
    try:
        lacks = dict(json.loads(told.stdout.splitlines()[-1])["lacks"])
    except (ValueError, LookupError, TypeError):
        return f"is no Python that works: {said}"
    return f"lacks {', '.join(lacks)} ({next(iter(lacks.values()))})" if lacks else ""
