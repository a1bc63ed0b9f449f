"""Programs of two processes on one machine, where no Slurm starts them in containers: by torchrun, in one job."""

from __future__ import annotations

import time
from pathlib import Path

from pytest_ai_how.launch import Launcher, Task, why
from pytest_ai_how.launch.protocol import run
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.report.evidence import Evidence

from ._collectives import COMMON, MEMORY_CUDA
from ._ranks import WITHIN, Ran, Shape, document, in_place

#: One process for each GPU, which meet at a free port of the machine itself, whatever that calls itself.
_MEET = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--max-restarts=0")


def run_by_torchrun(
    launcher: Launcher, pytorch: Runtime, evidence: Evidence, run_id: str, program: str, *args: str
) -> Ran:
    """Run a program of ``payloads/distributed`` as two processes with a GPU each, and return what they told.

    That it fails, or tells something else, is a failure that names the machine.
    """
    shape, folder = Shape(1, 2), f"{launcher.folder}/{program}-{run_id}-{time.monotonic_ns()}"
    launcher.query("mkdir", "-p", "--", folder)
    try:
        for name in (*COMMON, f"distributed/{program}.py"):
            text = (Path(__file__).parent / "payloads" / name).read_text(encoding="utf-8")
            launcher.write(f"{folder}/{Path(name).name}", text)
        argv = (pytorch.python, *_MEET, f"--nproc-per-node={shape.per_node}", f"{folder}/{program}.py", *args)
        memory = shape.per_node * MEMORY_CUDA
        task = Task(program, argv, folder, image=pytorch.image, cpus=shape.per_node, gpus=shape.per_node, memory=memory)
        ended = run(launcher, task, WITHIN)
        said, errors = launcher.read(ended.stdout), launcher.read(ended.stderr)
    finally:
        launcher.query("rm", "-rf", "--", folder, timeout=60)
    evidence.attach(f"{program}: job {ended.id}: record", ended.to_json(), "application/json")
    evidence.attach(f"{program}: stdout", said)
    evidence.attach(f"{program}: stderr", errors)
    assert ended.ok, (
        f"{ended.label}: ended as {ended.state} with {ended.status}: {why(errors)}; expected that it ends well"
    )
    documents = [found for line in said.splitlines() if (found := document(line)) is not None]
    assert len(documents) == 1, f"{ended.label}: printed {said[-200:]!r}, expected JSON of all ranks once"
    ran = Ran(program, tuple(documents[0]), ended.elapsed)
    in_place(ran, shape)
    # They ran on one machine: it is called as everywhere else, whatever it calls itself.
    return Ran(program, tuple({**one, "node": ended.node} for one in ran.told), ran.seconds)
