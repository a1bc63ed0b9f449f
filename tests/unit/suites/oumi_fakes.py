"""Oumi's jobs as they ended on a cluster in order, without a cluster; a test changes one thing of what they left."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.config.loader import load_config
from pytest_ai_how.image.definitions import Source
from pytest_ai_how.launch import Ended
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.lease.lease import Lease
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import load_scale
from pytest_ai_how.shell import Result
from suites.mlops._request import Request
from suites.mlops.oumi._oumi import Oumi, Ran, Step
from suites.mlops.oumi._work import Plan, broken, configurations
from tests.fakes import WRITES, written
from tests.unit.suites.task042_fakes import FakeJob, Rules, fake_slurm
from tests.unit.suites.task043_fakes import transport

PLAN, FULL = (Plan.of(load_scale(name)) for name in ("smoke", "full"))
WORK = PLAN.sft
FOLDER = "/mnt/shared/jobs/r1/oumi"
WHEELS = Source.shipped().define("oumi").wheels
LOSSES = [(5, 5.0), (10, 2.0), (40, 0.6), (75, 0.4), (80, 0.4)]


def state(
    step: int = WORK.steps,
    losses: list[tuple[int, float]] | None = None,
    batch: int = WORK.batch,
    runtime: float = 8.0,
    judged: tuple[float, ...] = (),
) -> str:
    """``trainer_state.json`` of transformers 5.16, as far as it is read."""
    log: list[dict[str, Any]] = [{"step": at, "loss": loss, "epoch": 1.0} for at, loss in losses or LOSSES]
    log += [{"step": step, "eval_loss": loss, "eval_runtime": 1.0} for loss in judged]
    log.append({"step": step, "train_runtime": runtime})
    found = {"epoch": 2.0, "global_step": step, "max_steps": step, "train_batch_size": batch, "log_history": log}
    return json.dumps(found)


def results(perplexity: float, exact: float) -> dict[str, Any]:
    """``results.json``."""
    signs = [{"words": 3, "repeated": 0.0, "unprintable": 0.0}] * 3
    answers = {"samples": WORK.held_out, "exact": exact, "bleu": exact, "rouge_l": exact, "signs": signs}
    surprise = {"samples": WORK.held_out, "tokens": 96, "perplexity": perplexity}
    return {"ai_how_answers": answers, "ai_how_perplexity": surprise}


def generations(*answers: str) -> str:
    """``generations.txt``."""
    return "".join(f'### "say {number}"\n{answer}\n' for number, answer in enumerate(answers))


def look(**changes: Any) -> str:
    """What look.py tells."""
    names = ("transformers", "datasets", "accelerate", "peft", "trl")
    found = {
        "versions": dict(WHEELS),
        "modules": {name: {"version": WHEELS[name], "error": ""} for name in names},
        "api": ["train", "evaluate", "infer"],
        "status": 0,
        "help": "train evaluate infer launch distributed env",
        "prefix": "/venv",
    }
    return json.dumps(found | changes)


def schema(**changes: str) -> str:
    """What schema.py tells: nothing of ours, the mistake of each that is broken; ``_`` is ``-`` in changes."""
    said = dict.fromkeys(configurations(PLAN, FOLDER), "")
    said |= {name: f"OumiConfigParsingError: {word}" for name, (_, word) in broken(WORK, FOLDER).items()}
    return json.dumps(said | {f"{name.replace('_', '-')}.yaml": text for name, text in changes.items()})


def smi(uuid: str = "GPU-0", busy: int = 88, used: int = 4210) -> str:
    """What nvidia-smi wrote down: while files were read, at work, and when all was done; the last line is cut off."""
    told = [(0, 4), (busy, used), (busy, used), (0, 4)]
    return "".join(f"{uuid}, {one}, {mib}, 81559\n" for one, mib in told) + f"{uuid}, 9"


EXPORTED = {"r": PLAN.lora.rank, "lora_alpha": PLAN.lora.alpha, "peft_type": "LORA", "target_modules": ["q_proj"]}
FILES: Mapping[str, str] = {
    "train.gpus.csv": smi(),
    "pace.gpus.csv": smi(busy=90),
    "two-0/train.gpus.csv": smi(),
    "two-1/train.gpus.csv": smi("GPU-1"),
    "lora-0/train.gpus.csv": smi() + "\n" + smi("GPU-1"),
    "lora/trainer_state.json": state(PLAN.lora.steps, judged=(1.2, 0.9)),
    "lora/adapter_config.json": json.dumps(EXPORTED),
    "look.out": look(),
    "schema.out": schema(),
    "alone.json": json.dumps({"interfaces": ["lo"], "answers": {"192.0.2.1": "ENETUNREACH"}}),
    "train.out": "trained on cpu",
    "train.err": "",
    "sft/trainer_state.json": state(),
    "sft/checkpoint-40/trainer_state.json": state(40),
    "sft/checkpoint-80/trainer_state.json": state(80),
    "two/trainer_state.json": state(batch=WORK.batch // 2),
    "two-0/train.out": "gloo in place of NCCL: rank 0 of 2\n",
    "two-0/train.err": "",
    "two-1/train.out": "gloo in place of NCCL: rank 1 of 2\n",
    "two-1/train.err": "",
    "answers.jsonl": "".join(
        json.dumps({"messages": [{"role": "user", "content": "say a"}, {"role": "assistant", "content": "a"}]}) + "\n"
        for _ in range(3)
    ),
    f"{WORK.data_folder}/prompts.jsonl": (json.dumps({"messages": [{"role": "user", "content": "say a"}]}) + "\n") * 3,
    "base/results.json": json.dumps(results(300.0, 0.0)),
    "tuned/results.json": json.dumps(results(1.5, 0.9)),
    "base/generations.txt": generations("x", "y", "z"),
    "tuned/generations.txt": generations("here is a", "here is b", "here is c"),
}
#: What two processes say when they joined over NCCL 2.27.
NCCL = (
    "node01:91:312 [{0}] NCCL INFO ncclCommInitRankConfig comm 0x55d0 rank {0} nranks 2 cudaDev {0} nvmlDev {0} "
    "busId 6000 commId 0x9a - Init COMPLETE\n"
)
CHECKPOINT = ("config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth")
LISTED = {f"checkpoint-{step}/{name}": 10 for step in (40, 80) for name in CHECKPOINT}
ADAPTER = {"adapter_model.safetensors": 10, "adapter_config.json": 10}
LISTED |= dict.fromkeys(("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"), 10)


class FakeOumi(Oumi):
    """What was left is in ``files``; ``seconds`` are those of the steps, ``nodes`` those of the job on two machines."""

    files: Mapping[str, str]
    listed: Mapping[str, int]
    kept: Mapping[str, Mapping[str, Any]]
    seconds: float
    status: int
    nodes: tuple[str, ...]
    tres: Mapping[str, int]

    @property
    def folder(self) -> str:
        return FOLDER

    def looked(self) -> Ran:
        return self._ran("look", "tiny", "look", "schema")

    def trained(self) -> Ran:
        return self._ran("sft", "train")

    def evaluated(self) -> Ran:
        return self._ran("evaluate", "base", "tuned", "infer")

    def paired(self) -> Ran:
        return self._ran("two", "train", nodes=self.nodes)

    def paced(self) -> Ran:
        return self._ran("pace", "pace")

    def adapted(self) -> Ran:
        return self._ran("lora", "train")

    @property
    def pair(self) -> bool:
        return self.real and self.tres.get("gres/gpu") != 0

    def one(self) -> Request:
        return Request(2, 4096, 0, ("node01",), "gpu")

    def _ran(self, name: str, *steps: str, nodes: tuple[str, ...] = ("node01",)) -> Ran:
        ended = Ended("7", f"oumi-{name}", "COMPLETED", 0, 0, nodes, 0, 0, 9, 9, "out", "err", self.tres)
        return Ran(ended, FOLDER, {step: Step(step, self.status, self.seconds, 600.0) for step in steps})

    def read(self, ended: Ended, name: str) -> str:
        assert name in self.files, f"{ended.label}: ended well, and left no {FOLDER}/{name}"
        return self.files[name]

    def attach(self, ran: Ran, evidence: Evidence) -> None:
        evidence.attach("job", ran.ended.label)


def oumi(
    files: Mapping[str, str] | None = None,
    *,
    listed: Mapping[str, int] | None = None,
    kept: Mapping[str, Any] | None = None,
    seconds: float = 9.0,
    status: int = 0,
    nodes: tuple[str, ...] = ("node01", "node02"),
    real: bool = False,
    tres: Mapping[str, int] = MappingProxyType({"gres/gpu": 2}),
) -> FakeOumi:
    """Jobs that are in order but for what is said."""
    config = load_config("local")
    containers = config.containers.model_copy(update={"images": ("base", "oumi")})
    own = config.model_copy(update={"containers": containers})
    found = {**FILES, **(files or {})}

    def query(*argv: str, **_: Any) -> Result:
        if "-printf" in argv:
            known = ADAPTER if argv[1].endswith("/lora") else LISTED
            names = {**known, **(listed or {})}
            return Result(argv, 0, "".join(f"{name}\t{size}\n" for name, size in names.items()))
        which = argv[1].rpartition("/")[2]
        told = json.loads(found[f"{which}/results.json"]) | (kept or {})
        return Result(argv, 0, "".join(json.dumps({"results": {task: one}}) + "\n" for task, one in told.items()))

    cluster = cast("Any", SimpleNamespace(config=own, controller=SimpleNamespace(name="controller")))
    made = FakeOumi(
        cast("Any", SimpleNamespace(query=query)),
        cast("Any", None),
        cluster,
        Runtime("python3", "/oumi.sif"),
        PLAN,
        real,
    )
    changes = {"files": found, "seconds": seconds, "status": status, "nodes": nodes, "tres": tres}
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


# Jobs that Slurm starts, on a fake of it

RUNTIME = Runtime("python3", "/oumi.sif")
MISSING = Result((), 1, "", "sha256sum: x: No such file or directory\n")


def made(lease: Lease, plan: Plan = PLAN, *jobs: FakeJob, first: Rules = (), real: bool = False) -> Oumi:
    quiet: Rules = [*first, WRITES, ("rm -rf", ""), ("sha256sum", MISSING)]
    slurm = fake_slurm(jobs, first=quiet)
    found = slurm.cluster.config
    containers = found.containers.model_copy(update={"images": ("base", "oumi")})
    cluster = Cluster(found.model_copy(update={"containers": containers}), list(slurm.cluster.nodes))
    return Oumi(SlurmLauncher(slurm), Once(lease), cluster, RUNTIME, plan, real)


def with_jobs(lease: Lease, *names: str, plan: Plan = PLAN, said: str = "", real: bool = False) -> Oumi:
    """Jobs, each of which ends well; of the schema they have ``said`` this (default: that all is in order)."""
    jobs = [FakeJob(f"oumi-{name}", number, workdir=FOLDER) for number, name in enumerate(names, 3)]
    read: Rules = [
        (re.compile(r"^cat -- \S+record\.json"), json.dumps([{"name": "x", "status": 0, "seconds": 1.0, "peak": 1.0}])),
        (f"cat -- {FOLDER}/schema.out", said or schema()),
        (re.compile(r"^cat -- \S+\.(err|out)"), ""),
    ]
    return made(lease, plan, *jobs, first=read, real=real)


def placed(oumi: Oumi) -> dict[str, str]:
    """The files that were put where jobs see them, by path."""
    return written(oumi.cluster.controller.transport)


def calls(oumi: Oumi, program: str) -> list[tuple[tuple[str, ...], str]]:
    """How a program was called on the controller, and with what input."""
    found = transport(oumi.cluster, "controller").calls
    return [(call.argv, call.input.decode(errors="replace")) for call in found if call.argv[0] == program]
