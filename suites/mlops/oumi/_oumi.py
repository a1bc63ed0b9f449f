"""Oumi's jobs: files put where all machines see them, each job started once a run, and what it left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from pytest_ai_how.assets import asset
from pytest_ai_how.cluster import Cluster
from pytest_ai_how.data import File
from pytest_ai_how.errors import AiHowError
from pytest_ai_how.launch import Ended, JobFailed, Launcher, Task, done, why
from pytest_ai_how.launch.runtime import Runtime
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.launch.slurm import SlurmLauncher
from pytest_ai_how.report.evidence import Evidence
from pytest_ai_how.scales import load_scale
from pytest_ai_how.services.apptainer import command
from pytest_ai_how.services.slurm import NodeRecord
from pytest_ai_how.services.slurm.topology import topologies
from pytest_ai_how.shell import quote

from .._data import needed, staged
from .._request import Request, for_one, for_topology
from ._schema import kind_of, refuse_invalid
from ._submissions import submissions
from ._work import PROCESSES, TINY, Plan, Work, as_yaml, broken, configurations

PAYLOADS = Path(__file__).parent / "payloads"
WATCH = Path(__file__).parents[1] / "payloads/watch.py"
#: What a step is without a network, in a container of an ordinary user.
ALONE = ("unshare", "--user", "--map-current-user", "--net")
# What each of several machines does: Oumi is told by SkyPilot's variables who is where. The launcher's are AI_HOW_*.
_EACH = """mkdir -p "$1-$AI_HOW_NODE"
cd "$1-$AI_HOW_NODE"
[ "$AI_HOW_PORT" != 0 ] || AI_HOW_PORT=$("$2" -c "$4")
export SKYPILOT_NODE_RANK="$AI_HOW_NODE" SKYPILOT_NUM_GPUS_PER_NODE="$3" MASTER_PORT="$AI_HOW_PORT"
exec "$2" ../steps.py "../$1.steps.json" record.json
"""
# What Debian gives an ordinary user.
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Oumi does not take 0 for any port that is free.
_FREE = 'import socket; print(socket.create_server(("", 0)).getsockname()[1])'
#: The file that each step leaves where its job has GPUs.
WATCHED = "{}.gpus.csv"
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


def quiet() -> dict[str, str]:
    """What keeps Oumi and its libraries from calling home, as the image sets it for whoever is in it."""
    text = asset("provisioning/roles/oumi/files/.singularity.d/env/91-oumi.sh").read_text(encoding="utf-8")
    return dict(re.findall(r"^export (\w+)=(\w+)$", text, re.MULTILINE))


@dataclass(frozen=True)
class Oumi:
    """The jobs of one run; ``runtime`` is the Python that has Oumi.

    ``real``: GPUs compute here, and jobs that train ask for them. ``name`` begins theirs.
    """

    launcher: Launcher
    once: Once
    cluster: Cluster
    runtime: Runtime
    plan: Plan
    real: bool = False
    name: str = "oumi"

    @property
    def work(self) -> Work:
        """The training whose model is evaluated."""
        return self.plan.sft

    @property
    def folder(self) -> str:
        """Where the jobs' files lie."""
        return f"{self.launcher.folder}/{self.name}"

    def without_gpu(self) -> Oumi:
        """Jobs of the tiny model on CPUs: these, where they are such."""
        if self.work.model == TINY and not self.real:
            return self
        return replace(self, plan=Plan.of(load_scale("smoke")), real=False, name=f"{self.name}-tiny")

    # what there is to judge

    def looked(self) -> Ran:
        """The job that makes models and data, looks at the environment, and holds configurations to the schema.

        What it is made of must be in the cache: that is seen before any job is started.
        """
        sets = self.once.told(f"{self.name}-sets", self._sets)
        named = [f"{kind_of(name)}={name}" for name in self.all_configurations()]
        programs = dict(self.plan.preparations(sets))
        programs |= {"look": ("look.py", *self.packages()), "schema": ("schema.py", *named)}
        steps = {name: (self.runtime.python, *argv) for name, argv in programs.items()}
        return self.job("look", steps)

    def _sets(self) -> Mapping[str, str]:
        """The folders of the data sets, staged."""
        needed(*self.plan.sets)

        def none(file: File, path: str) -> None:
            raise AiHowError(path, f"comes from the package {file.package}", expected="a file of the cache")

        return {name: staged(self.launcher, self.once, name, none)[0] for name in self.plan.sets}

    def valid(self, *names: str) -> Ran:
        """:meth:`looked`, by whose job the installed Oumi takes the configurations ``names``.

        Raises :class:`AiHowError` naming the first that it does not take: nothing is submitted that it refuses.
        """
        ran = self.looked()
        refuse_invalid(self.read(ran.ended, "schema.out"), names, ran.label)
        return ran

    def trained(self) -> Ran:
        """The job that trains, without a network."""
        self.valid("train.yaml")
        argv = (*ALONE, self.runtime.python, "alone.py", "alone.json", "oumi", "train", "-c", "train.yaml")
        return self.job("sft", {"train": argv}, wanted=self.one)

    def evaluated(self) -> Ran:
        """The job that evaluates the model as it was and as it became, and lets it answer."""
        self.trained()
        files = {"base": "evaluate-base.yaml", "tuned": "evaluate-tuned.yaml", "infer": "infer.yaml"}
        self.valid(*files.values())
        steps = {name: ("oumi", kind_of(file), "-c", file) for name, file in files.items()}
        return self.job("evaluate", steps, {EXTRA: f"{self.folder}/functions.txt"}, wanted=self.one)

    def reference(self) -> tuple[Ran, str]:
        """The job that does by one process what :meth:`paired` does, and the folder of what it left."""
        if self.plan.same:
            return self.trained(), "sft"
        self.valid("train-one.yaml")
        return self.job("one", {"train-one": ("oumi", "train", "-c", "train-one.yaml")}, wanted=self.one), "one"

    def paired(self) -> Ran:
        """The job that trains by two processes through ``oumi distributed``: on two GPUs, or on CPUs of two machines.

        Not beside that of one process, to whose speed its own is compared.
        """
        self.reference()
        self.valid("train-two.yaml")
        return self.several("two", "train-two.yaml")

    def paced(self) -> Ran:
        """The job of one process that does what each of two does, on samples that lie on its GPU beforehand."""
        self.valid("train-two.yaml")
        return self.job("pace", {"pace": (self.runtime.python, "pace.py", "train-two.yaml")}, wanted=self.one)

    def adapted(self) -> Ran:
        """The job that trains an adapter: on two GPUs, or by one process on one, or on CPUs."""
        self.valid("train-lora.yaml")
        if self.pair:
            return self.several("lora", "train-lora.yaml")
        return self.job("lora", {"train-lora": ("oumi", "train", "-c", "train-lora.yaml")}, wanted=self.one)

    @property
    def pair(self) -> bool:
        """Whether one job can hold two GPUs that compute; looked at once a run."""

        def action() -> Mapping[str, str]:
            if isinstance(self.launcher, SlurmLauncher):
                return {"pair": "yes" if topologies(self._records(), PROCESSES) else ""}
            own = self.cluster.on("compute")[0].config.gpus
            return {"pair": "yes" if own and own.count >= PROCESSES else ""}

        return self.real and bool(self.once.told(f"{self.name}-pair", action)["pair"])

    # how

    def several(self, name: str, config: str) -> Ran:
        """A job of two processes, started by ``oumi distributed`` on each machine."""
        argv = ("oumi", "distributed", "torchrun", "-m", "oumi", "train", "-c", f"{self.folder}/{config}")
        if self.pair:
            # What each process says of how it joined the others.
            env = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT"}
            return self.job(name, {"train": argv}, env, wanted=self.two)
        steps = {"train": (*argv, "--model.device_map", "cpu")}
        return self.job(name, steps, {EXTRA: f"{self.folder}/gloo.txt"}, wanted=self.two)

    def one(self) -> Request:
        """What a job of one process asks for."""
        work = self.work
        if not isinstance(self.launcher, SlurmLauncher):
            return Request(work.cpus, 0, int(self.real))
        found = for_one(self._records(), work.cpus, work.memory)
        return found if self.real else replace(found, gpus=0)

    def two(self) -> Request:
        """What a job of two processes asks for: two GPUs as near to each other as can be, or two machines."""
        work, records = self.plan.two, self._records()
        if self.pair and not isinstance(self.launcher, SlurmLauncher):
            return Request(work.cpus, 0, PROCESSES, self.cluster.on("compute").names[:1])
        if self.pair:
            return for_topology(records, topologies(records, PROCESSES)[0], work.cpus, work.memory)
        usable = [one for one in records if one.usable and one.partitions][:PROCESSES]
        if len(usable) < PROCESSES:
            raise JobFailed("slurm", f"{len(usable)} nodes take jobs", expected=f"{PROCESSES}", cure="`sinfo -N -l`")
        least = min(one.cpus for one in usable), min(one.for_jobs for one in usable)
        return Request(min(work.cpus, least[0]), min(work.memory, least[1]), 0, tuple(one.name for one in usable))

    def _records(self) -> tuple[NodeRecord, ...]:
        return tuple(self.launcher.slurm.nodes().values()) if isinstance(self.launcher, SlurmLauncher) else ()

    def packages(self) -> tuple[str, ...]:
        """The Python packages whose versions are looked at: all that the image's lock names."""
        from pytest_ai_how.image.definitions import Source

        served = self.cluster.config.containers.served
        return tuple(Source.shipped().define(served.get("oumi", "oumi")).wheels)

    def sound(self, *, pair: bool = False) -> Mapping[str, dict[str, Any]]:
        """The configurations of all jobs, by file; ``pair``: there are two GPUs for who can use them."""
        return {**configurations(self.plan, self.folder, pair=pair, real=self.real), **self.submissions()}

    def all_configurations(self, *, pair: bool = False) -> Mapping[str, dict[str, Any]]:
        """These, and the broken ones."""
        spoilt = {name: config for name, (config, _) in broken(self.work, self.folder).items()}
        return {**self.sound(pair=pair), **spoilt}

    def submissions(self) -> Mapping[str, dict[str, Any]]:
        """What Oumi's own launcher is given: jobs in a container, by Slurm; nothing where one of them is not there."""
        launcher, image = self.launcher, self.runtime.image
        if not isinstance(launcher, SlurmLauncher) or not image:
            return {}

        def action() -> Mapping[str, str]:
            work, most, gpus = self.plan.launch, self.one(), any(one.gpus for one in self._records())
            ask = Request(min(work.cpus, most.cpus), min(work.memory, most.memory), int(gpus))
            argv, flags = ("oumi", "train", "-c", "train.yaml"), ("nv",) if self.real else ()
            inner = quote(command("exec", image, *argv, binds=[self.launcher.folder], flags=flags))
            made = submissions(work, ask, inner, user=launcher.slurm.user, folder=self.folder, real=self.real)
            return {name: json.dumps(config) for name, config in made.items()}

        # Whoever asks first asks Slurm, and what is placed, held to the schema and submitted is the same.
        found = self.once.told(f"{self.name}-submissions", action)
        return {name: json.loads(config) for name, config in found.items()}

    def place(self) -> None:
        """Put all files where jobs find them; once a run."""

        def action() -> Mapping[str, str]:
            # A cluster that was kept has those of an earlier run.
            self.launcher.query("rm", "-rf", "--", self.folder, timeout=60)
            files = {path.name: path.read_text(encoding="utf-8") for path in (*sorted(PAYLOADS.glob("*.py")), WATCH)}
            files |= {name: as_yaml(config) for name, config in self.all_configurations(pair=self.pair).items()}
            files |= {f"{name}.txt": f"{self.folder}/{name}.py\n" for name in ("functions", "gloo")}
            folders = {str(PurePosixPath(self.folder, name).parent): None for name in files}
            self.launcher.query("mkdir", "-p", "--", *folders)
            for name, text in files.items():
                self.write(name, text)
            return {}

        self.once.told(f"{self.name}-files", action)

    def write(self, name: str, text: str) -> None:
        """Write a file as the job user."""
        self.launcher.write(f"{self.folder}/{name}", text)

    def task(self, name: str, wanted: Request, env: Mapping[str, str]) -> Task:
        """A job that runs the steps which ``<name>.steps.json`` has: once, or on each machine for several processes."""
        several = wanted.nodes * wanted.per_node > 1
        python = self.runtime.python
        alone = (python, "steps.py", f"{name}.steps.json", f"{name}.record.json")
        each = ("sh", "-eu", "-c", _EACH, "sh", name, python, str(wanted.per_node), _FREE)
        ips = {"SKYPILOT_NODE_IPS": "\n".join(self.cluster[one].address for one in wanted.on)} if several else {}
        # Whoever asks for no GPU may see one all the same, where nothing keeps jobs apart.
        hidden = {} if wanted.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        # Oumi's command was installed beside the interpreter.
        outside = {} if self.runtime.image else {"PATH": f"{PurePosixPath(python).parent}:{_PATH}", **quiet()}
        return Task(
            f"{self.name}-{name}",
            each if several else alone,
            self.folder,
            image=self.runtime.image,
            nodes=wanted.nodes,
            cpus=wanted.cpus * wanted.per_node,
            gpus=wanted.gpus,
            memory=wanted.memory,
            minutes=self.plan.minutes(name),
            env={"OMP_NUM_THREADS": str(wanted.cpus), "TERM": "dumb", "COLUMNS": "200"}
            | hidden
            | outside
            | ips
            | dict(env),
            on=wanted.on,
            partition=wanted.partition,
            port=several,
            binds=(self.launcher.folder,),
        )

    def job(
        self,
        name: str,
        steps: Mapping[str, Sequence[str]],
        env: Mapping[str, str] = MappingProxyType({}),
        *,
        wanted: Callable[[], Request] | None = None,
    ) -> Ran:
        """The job ``name`` of this run; it runs once, whoever asks. That it fails is told to all who ask.

        It asks for what is ``wanted`` (default: one process without a GPU). Of several processes each machine has a
        folder ``<name>-<number>``; the record is the first's.
        """
        self.place()

        def action() -> Mapping[str, str]:
            listed = [{"name": step, "argv": list(argv), "env": {}} for step, argv in steps.items()]
            self.write(f"{name}.steps.json", json.dumps(listed))
            request = wanted() if wanted else replace(self.one(), gpus=0)
            record = f"{name}-0/record.json" if request.nodes * request.per_node > 1 else f"{name}.record.json"
            return {"ended": done(self.launcher, self.task(name, request, env)).to_json(), "record": record}

        told = self.once.told(f"{self.name}-{name}", action)
        ended = Ended.from_json(told["ended"])
        found = json.loads(self.read(ended, told["record"]))
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
