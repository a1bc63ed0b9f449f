"""Where programs find PyTorch, and what is said where they don't."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import pytest

from pytest_ai_how.errors import CommandTimeout, HostError
from pytest_ai_how.launch.runtime import NEEDED, Runtime, own_interpreter
from pytest_ai_how.node import Node
from pytest_ai_how.shell import Result
from pytest_ai_how.transport import FakeTransport, LocalTransport
from tests.fakes import fake_cluster

PYTHON = "/srv/venv/bin/python"
CURE = f"{PYTHON} -m pip install torch numpy scikit-learn tensorboard, or name another under 'python'"


def node(answer: str | Result | Exception) -> Node:
    return Node(fake_cluster({}).nodes[0].config, FakeTransport("box", {PYTHON: answer}))


def told(lacks: dict[str, str]) -> str:
    found = {name: "1.0" for name in NEEDED if name not in lacks}
    return "a library says something\n" + json.dumps({"python": "3.12.3", "found": found, "lacks": lacks})


def test_an_interpreter_that_has_it_all_is_taken() -> None:
    assert own_interpreter(node(told({})), PYTHON) == Runtime(PYTHON)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (told({"torch": "ModuleNotFoundError: No module named 'torch'"}), "lacks torch (ModuleNotFoundError"),
        (
            Result((PYTHON,), 127, stderr="python: No such file or directory\n"),
            "is no Python that works: python: No such",
        ),
        (Result((PYTHON,), 0, "hello\n"), "is no Python that works"),
        (Result((PYTHON,), 0, ""), "is no Python that works"),
        (CommandTimeout(Result((PYTHON,), -9), 120), "importing torch, numpy, sklearn, tensorboard did not end"),
    ],
    ids=["no torch", "no program", "another program", "silent", "hangs"],
)
def test_what_it_lacks_is_named_with_its_cure(answer: str | Result | Exception, seen: str) -> None:
    with pytest.raises(HostError) as caught:
        own_interpreter(node(answer), PYTHON)
    assert caught.value.where == PYTHON
    assert seen in caught.value.seen
    assert caught.value.cure == CURE


@pytest.mark.parametrize(
    ("modules", "lacks"), [(("json", "math"), ""), (("json", "no_such_module_1"), "no_such_module_1")]
)
def test_a_real_interpreter_is_asked(modules: Sequence[str], lacks: str) -> None:
    here = Node(fake_cluster({}).nodes[0].config, LocalTransport("box"))
    if not lacks:
        assert own_interpreter(here, sys.executable, modules).python == sys.executable
        return
    with pytest.raises(HostError, match=f"lacks {lacks} \\(ModuleNotFoundError"):
        own_interpreter(here, sys.executable, modules)


def test_how_it_is_called() -> None:
    assert Runtime(PYTHON).argv("-", gpus=True) == (PYTHON, "-")
    contained = Runtime("python3", "/mnt/shared/containers/pytorch.sif").argv("-", gpus=True)
    assert contained[-3:] == ("/mnt/shared/containers/pytorch.sif", "python3", "-")
    assert "--nv" in contained
    assert "--nv" not in Runtime("python3", "/x.sif").argv("-")
