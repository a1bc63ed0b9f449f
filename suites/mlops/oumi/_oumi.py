"""Oumi's jobs: files put where all machines see them, each job started once a run, and what it left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.launch import Ended, JobFailed, Launcher, Task, done, why
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.report.evidence import Evidence

from ._work import Work, as_yaml, broken, configurations

PAYLOADS = Path(__file__).parent / "payloads"
#: What a step is without a network, in a container of an ordinary user.
ALONE = ("unshare", "--user", "--map-current-user", "--net")
# What each of several machines does: Oumi is told by SkyPilot's variables who is where. The launcher's are AI_HOW_*.
_EACH = """mkdir -p "$1-$AI_HOW_NODE"
cd "$1-$AI_HOW_NODE"
export SKYPILOT_NODE_RANK="$AI_HOW_NODE" SKYPILOT_NUM_GPUS_PER_NODE=1 MASTER_PORT="$AI_HOW_PORT"
exec "$2" ../steps.py "../$1.steps.json" record.json
"""
# What Debian gives an ordinary user.
_PATH = "/usr/local/bin:/usr/bin:/bin"
#: Where Oumi finds functions of ours.
EXTRA = "OUMI_EXTRA_DEPS_FILE"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a job: exit status, seconds, and the most memory that one of its processes had, in MiB."""

    name: str
    status: int
    seconds: float
    peak: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A job whose steps have ended well, in ``folder``."""

    ended: Ended
    folder: str
    steps: Mapping[str, Step]

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.ended.node}: job {self.ended.id} ({self.ended.name})"


@dataclass(frozen=True)
class Oumi:
    """The jobs of one run; ``runtime`` is the Python that has Oumi."""

    launcher: Launcher
    once: Once
    cluster: Cluster
    runtime: Runtime
    work: Work

    @property
    def folder(self) -> str:
        """Where the jobs' files lie."""
        return f"{self.launcher.folder}/oumi"

    # what there is to judge

    def looked(self) -> Ran:
        """The job that makes model and data, looks at the environment, and holds configurations to the schema."""
        if self.work.model != "tiny":
            raise AiHowError(
                "configs/scales: sft.model",
                f"{self.work.model} can't be had: no manifest of its files ships yet",
                expected="tiny",
                cure="--scale=smoke",
            )
        python = self.runtime.python
        made = (python, "tiny.py", "data", str(self.work.samples), str(self.work.held_out))
        kinds = {name: name.partition("-")[0].removesuffix(".yaml") for name in self.all_configurations()}
        named = [f"{kind}={name}" for name, kind in kinds.items()]
        steps = {
            "tiny": made,
            "look": (python, "look.py", *self.packages()),
            "schema": (python, "schema.py", *named),
        }
        return self.job("look", steps)

    def trained(self) -> Ran:
        """The job that trains, without a network."""
        self.looked()
        alone = (*ALONE, self.runtime.python, "alone.py", "alone.json")
        return self.job("sft", {"train": (*alone, "oumi", "train", "-c", "train.yaml")})

    def evaluated(self) -> Ran:
        """The job that evaluates the model as it was and as it became, and lets it answer."""
        self.trained()
        steps = {
            "base": ("oumi", "evaluate", "-c", "evaluate-base.yaml"),
            "tuned": ("oumi", "evaluate", "-c", "evaluate-tuned.yaml"),
            "infer": ("oumi", "infer", "-c", "infer.yaml"),
        }
        return self.job("evaluate", steps, {EXTRA: f"{self.folder}/functions.txt"})

    def paired(self) -> Ran:
        """The job that trains by two processes on two machines, through ``oumi distributed``."""
        self.trained()
        argv = ("oumi", "distributed", "torchrun", "-m", "oumi", "train", "-c", f"{self.folder}/train-two.yaml")
        steps = {"train": (*argv, "--model.device_map", "cpu")}
        return self.job("two", steps, {EXTRA: f"{self.folder}/gloo.txt"}, nodes=2)

    # how

    def packages(self) -> tuple[str, ...]:
        """The Python packages whose versions are looked at: all that the image's lock names."""
        from pytest_ai_how.image.definitions import Source

        served = self.cluster.config.containers.served
        return tuple(Source.shipped().define(served.get("oumi", "oumi")).wheels)

    def all_configurations(self) -> Mapping[str, dict[str, Any]]:
        """Those of the jobs, and the broken ones."""
        spoilt = {name: config for name, (config, _) in broken(self.work, self.folder).items()}
        return {**configurations(self.work, self.folder), **spoilt}

    def place(self) -> None:
        """Put all files where jobs find them; once a run."""

        def action() -> Mapping[str, str]:
            # A cluster that was kept has those of an earlier run.
            self.launcher.query("rm", "-rf", "--", self.folder, timeout=60)
            self.launcher.query("mkdir", "-p", "--", self.folder)
            files = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAYLOADS.glob("*.py"))}
            files |= {name: as_yaml(config) for name, config in self.all_configurations().items()}
            files |= {f"{name}.txt": f"{self.folder}/{name}.py\n" for name in ("functions", "gloo")}
            for name, text in files.items():
                self.write(name, text)
            return {}

        self.once.told("oumi-files", action)

    def write(self, name: str, text: str) -> None:
        """Write a file as the job user."""
        self.launcher.query("tee", "--", f"{self.folder}/{name}", input=text)

    def task(self, name: str, nodes: int = 1, env: Mapping[str, str] | None = None) -> Task:
        """A job that runs the steps which ``<name>.steps.json`` has, on each of ``nodes`` machines."""
        memory, cpus, on = self.request(nodes)
        alone = (self.runtime.python, "steps.py", f"{name}.steps.json", f"{name}.record.json")
        env = dict(env or {})
        if not self.runtime.image:
            # Oumi's command was installed beside the interpreter.
            env["PATH"] = f"{PurePosixPath(self.runtime.python).parent}:{_PATH}"
        if nodes > 1:
            env["SKYPILOT_NODE_IPS"] = "\n".join(self.cluster[one].address for one in on)
        return Task(
            f"oumi-{name}",
            alone if nodes == 1 else ("sh", "-eu", "-c", _EACH, "sh", name, self.runtime.python),
            self.folder,
            image=self.runtime.image,
            nodes=nodes,
            cpus=cpus,
            memory=memory,
            minutes=self.work.minutes,
            env={"OMP_NUM_THREADS": str(cpus), "TERM": "dumb", "COLUMNS": "200"} | env,
            on=on,
            port=nodes > 1,
        )

    def request(self, nodes: int) -> tuple[int, int, tuple[str, ...]]:
        """MiB and CPUs to ask for, and where: what the scale says, and no more than the machines have."""
        if not isinstance(self.launcher, SlurmLauncher):
            return 0, self.work.cpus, ()
        usable = [one for one in self.launcher.slurm.nodes().values() if one.usable and one.partitions][:nodes]
        if len(usable) < nodes:
            raise JobFailed("slurm", f"{len(usable)} nodes take jobs", expected=f"{nodes}", cure="`sinfo -N -l`")
        least = min(one.memory for one in usable), min(one.cpus for one in usable)
        return min(self.work.memory, least[0]), min(self.work.cpus, least[1]), tuple(one.name for one in usable)

    def job(
        self, name: str, steps: Mapping[str, Sequence[str]], env: Mapping[str, str] | None = None, *, nodes: int = 1
    ) -> Ran:
        """The job ``name`` of this run; it runs once, whoever asks. That it fails is told to all who ask.

        On several machines each has a folder ``<name>-<number>``; the record is the first's.
        """
        self.place()

        def action() -> Mapping[str, str]:
            wanted = [{"name": step, "argv": list(argv), "env": {}} for step, argv in steps.items()]
            self.write(f"{name}.steps.json", json.dumps(wanted))
            return {"ended": done(self.launcher, self.task(name, nodes, env)).to_json()}

        ended = Ended.from_json(self.once.told(f"oumi-{name}", action)["ended"])
        found = json.loads(self.read(ended, f"{name}-0/record.json" if nodes > 1 else f"{name}.record.json"))
        named = {one["name"]: Step(one["name"], one["status"], one["seconds"], one["peak"]) for one in found}
        return Ran(ended, self.folder, named)

    def read(self, ended: Ended, name: str) -> str:
        """A file that a job must have left."""
        path = f"{self.folder}/{name}"
        told = self.launcher.query("cat", "--", path, check=False)
        assert told.ok, f"{ended.label}: ended well, and left no {path}: {why(told.stderr)}; expected the file"
        return told.stdout

    def attach(self, ran: Ran, evidence: Evidence) -> None:
        """Attach the job's record, and what each step said."""
        evidence.attach(f"job {ran.ended.id}: record", ran.ended.to_json(), "application/json")
        for step in ran.steps.values():
            evidence.attach(f"{step.name}: status {step.status}, {step.seconds:.1f} s, peak {step.peak:.0f} MiB", " ")
            for kind in ("out", "err"):
                evidence.attach(f"{step.name}.{kind}", self.read(ran.ended, f"{step.name}.{kind}"))
