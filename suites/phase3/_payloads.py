"""Programs of this phase, run on nodes by their own Python: what the file system does is judged from what they tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pytest_ai_how.node import Node
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.services.bounded import bounded, hung
from pytest_ai_how.shell import Result

#: Seconds for a program that does a few hundred small operations; an emulated machine takes ten.
WITHIN = 60.0


def payload(name: str) -> str:
    """Return the text of a program in ``payloads/``."""
    return (Path(__file__).parent / "payloads" / name).read_text(encoding="utf-8")


def tell(node: Node, name: str, *args: str, evidence: Evidence, within: float = WITHIN) -> Any:
    """Run a program on a node, killed there after ``within`` seconds; attach what it said, and return that as data.

    That it hung, failed or said nothing is the file system's failure, not the harness's.
    """
    told = bounded(node, "python3", "-", *args, within=within, input=payload(name))
    evidence.result(told, f"{node.name}: {name} {' '.join(args)}")
    return answer(told, name)


def answer(told: Result, name: str) -> Any:
    """The JSON that a program printed."""
    assert not hung(told), f"{told.node}: {name} hung on the shared file system and was killed"
    said = (told.stderr.strip() or told.stdout.strip() or "nothing").splitlines()[-1]
    assert told.ok, f"{told.node}: {name} ended with {told.returncode}: {said}"
    assert told.stdout.strip(), f"{told.node}: {name} said nothing"
    return json.loads(told.stdout.splitlines()[-1])
