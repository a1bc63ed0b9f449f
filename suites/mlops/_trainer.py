"""Training jobs: their files put where all machines see them, started once a run, and what they left."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_ai_how.cluster import Cluster
from pytest_ai_how.data import DataSet, File
from pytest_ai_how.deadline import wait_for
from pytest_ai_how.errors import DeadlineExceeded
from pytest_ai_how.launch import Ended, JobFailed, Launcher, Started, Task, done, why
from pytest_ai_how.launch.shared import Once
from pytest_ai_how.transport.protocol import Transport

from ._data import staged
from ._request import Request
from ._trained import Killed, Trained, Work

PAYLOADS = Path(__file__).parent / "payloads"
#: Seconds for a job that copies what its image brings.
_STAGED = 60.0
#: MiB for a container with an interpreter that loads little.
_SMALL = 256
# What starts one process for each GPU on each machine of a job; the launcher says where they meet.
_TORCHRUN = (
    '[ "$AI_HOW_NODE" = 0 ] && echo "meets: $AI_HOW_HEAD:$AI_HOW_PORT"\n'
    'exec "$0" -m torch.distributed.run --nnodes="$AI_HOW_NODES" --rdzv-backend=c10d '
    '--rdzv-endpoint="$AI_HOW_HEAD:$AI_HOW_PORT" --max-restarts=0 '
    # One machine needs no name, and what it calls itself may lead nowhere.
    '$([ "$AI_HOW_NODES" = 1 ] && echo --local-addr=127.0.0.1) '
    # Said outright: torchrun's own guess becomes a client of whoever else has taken its port, and waits for an answer.
    '--rdzv-conf="is_host=$([ "$AI_HOW_NODE" = 0 ] && echo true || echo false)" "$@"'
)


@dataclass(frozen=True, slots=True)
class Trainer:
    """Starts training jobs of run ``run_id`` by ``launcher``, with PyTorch from ``image`` ('': the machine's own).

    ``python`` is its interpreter. ``real``: the GPUs are such that compute. ``host`` is the way to this host where its
    kernel is that of the machines, and ``unreadable`` says why kernels' logs can't be read; '' where they can.
    """

    launcher: Launcher
    once: Once
    cluster: Cluster
    image: str
    run_id: str
    real: bool = False
    python: str = "python3"
    host: Transport | None = None
    unreadable: str = ""

    @property
    def folder(self) -> str:
        """Where the files of this run's jobs lie."""
        return f"{self.launcher.folder}/mlops-{self.run_id}"

    def payloads(self) -> str:
        """The folder of the programs; put there once a run."""

        def put() -> Mapping[str, str]:
            folder = f"{self.folder}/payloads"
            self.launcher.query("mkdir", "-p", "--", folder)
            for path in sorted(PAYLOADS.glob("*.py")):
                self.launcher.write(f"{folder}/{path.name}", path.read_bytes())
            return {"folder": folder}

        return self.once.told("mlops-payloads", put)["folder"]

    def data(self, name: str) -> tuple[str, DataSet]:
        """The folder of a data set on the shared storage, staged there once a run, and what it must consist of.

        Files come from the cache, or by a job from the image that trains. Raises
        :class:`~pytest_ai_how.errors.AiHowError` for what is not in the cache.
        """

        def from_package(file: File, path: str) -> None:
            argv = (self.python, "stage.py", file.package, file.path, path)
            self.plain(Task("stage", argv, self.folder, memory=_SMALL), within=_STAGED)

        return staged(self.launcher, self.once, name, from_package)

    def plain(self, task: Task, within: float) -> tuple[Ended, str]:
        """Run a program of the payloads that is no training, its ``argv[1]``; its end, and what it printed.

        Raises :class:`JobFailed` unless it does its work.
        """
        program = (task.argv[0], f"{self.payloads()}/{task.argv[1]}", *task.argv[2:])
        binds = (self.launcher.folder,)
        ended = done(self.launcher, replace(task, argv=program, image=self.image, binds=binds), within)
        return ended, self.launcher.read(ended.stdout)

    def task(
        self, name: str, work: Work, request: Request, *flags: str, program: str = "train.py", torchrun: bool = False
    ) -> Task:
        """The job ``name``: a training of ``work`` into a folder of that name; by torchrun where there are several.

        The folder is made; ``flags`` are added to the program's own, and may name another folder by ``--out``.
        """
        data, _ = self.data(work.data)
        out = f"{self.folder}/{name}"
        self.launcher.query("mkdir", "-p", "--", out)
        sizes = [f"--{key}={getattr(work, key)}" for key in ("model", "width", "epochs", "batch", "rate")]
        argv = (f"{self.payloads()}/{program}", f"--dataset={work.data}", f"--data={data}", *sizes, f"--out={out}")
        argv = (*argv, *flags)
        several = torchrun or request.nodes * request.per_node > 1
        meeting = ("sh", "-c", _TORCHRUN, self.python, f"--nproc-per-node={request.per_node}")
        run = meeting if several else (self.python,)
        return Task(
            name,
            (*run, *argv),
            self.folder,
            image=self.image,
            nodes=request.nodes,
            cpus=request.cpus * request.per_node,
            gpus=request.gpus,
            memory=request.memory,
            minutes=work.minutes,
            env={"OMP_NUM_THREADS": str(request.cpus)},
            on=request.on,
            partition=request.partition,
            port=several,
            binds=(self.launcher.folder,),
        )

    def trained(self, name: str, work: Work, request: Request, *flags: str) -> Trained:
        """The job ``name`` of this run, which trains; it runs once, whoever asks.

        That it fails is an :class:`AssertionError` for the first that asks, and
        :class:`~pytest_ai_how.errors.StepBlocked` for all others.
        """

        def action() -> Mapping[str, str]:
            idle = self.gpu_memory(request.on[0] if request.on else "")
            ended = done(self.launcher, self.task(name, work, request, *flags))
            return {"ended": ended.to_json(), "idle": " ".join(map(str, idle))}

        told = self.once.told(f"mlops-{name}", action)
        found = self.left(Ended.from_json(told["ended"]), request, f"{self.folder}/{name}")
        return replace(found, idle=tuple(map(int, told["idle"].split())))

    def gpu_memory(self, node: str) -> tuple[int, ...]:
        """MiB in use on each GPU of a machine ('': the first that computes); none where they are simulated."""
        if not self.real:
            return ()
        machine = self.cluster[node] if node else self.cluster.on("compute")[0]
        words = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
        return tuple(int(word) for word in machine.run(*words).stdout.split())

    def resumed(self, name: str, work: Work, request: Request, rank: int = 0) -> tuple[Killed, Trained]:
        """A job of this run, a process of which was killed in its middle epoch, and the one that went on from there."""

        def action() -> Mapping[str, str]:
            flags = (f"--hold={work.middle}", f"--hold-rank={rank}")
            killed = self.killed(self.task(name, work, request, *flags), rank, work.minutes * 60)
            task = self.task(f"{name}-on", work, request, "--resume", f"--out={self.folder}/{name}")
            ended = done(self.launcher, task)
            return {"killed": killed.ended.to_json(), "seconds": str(killed.seconds), "ended": ended.to_json()}

        told = self.once.told(f"mlops-{name}", action)
        trained = self.left(Ended.from_json(told["ended"]), request, f"{self.folder}/{name}")
        return Killed(Ended.from_json(told["killed"]), float(told["seconds"])), trained

    def killed(self, task: Task, rank: int, within: float) -> Killed:
        """Start a job that holds (``--hold``), kill one of its processes by SIGKILL there, and wait for the job's end.

        Raises :class:`JobFailed` where it ends before it holds, does not hold, or does not end.
        """
        held = f"{self.folder}/{task.name}/held-{rank}"
        job = self.launcher.start(task)
        try:
            self._await_held(job, held, within)
            where, pid = self.launcher.read(held).split()
            self._kill(where, pid)
            began = time.monotonic()
            return Killed(self.launcher.ended(job, within), time.monotonic() - began)
        except BaseException:
            self.launcher.cancel(job)
            raise

    def _kill(self, where: str, pid: str) -> None:
        """Kill a process on the machine that calls itself ``where``."""
        if self.cluster.config.slurm is None:  # a job is where its launcher is, whatever that machine calls itself
            self.launcher.query("kill", "-KILL", pid)
            return
        nodes = self.cluster.nodes
        node = nodes[0] if len(nodes) == 1 else self.cluster[where.partition(".")[0]]
        node.run("kill", "-KILL", pid, user=self.cluster.config.user)

    def _await_held(self, job: Started, held: str, within: float) -> None:
        where = f"job {job.id} ({job.task.name})"

        def there() -> bool:
            if self.launcher.query("test", "-s", held, check=False).ok:
                return True
            if self.launcher.over(job):
                raise JobFailed(where, f"ended before it could be killed: {why(self.launcher.read(job.stderr))}")
            return False

        try:
            wait_for(there, within=within, what="in the midst of an epoch", where=where, at_most=0.2)
        except DeadlineExceeded as error:
            raise JobFailed(where, error.seen, expected=error.expected) from error

    def left(self, ended: Ended, request: Request, out: str) -> Trained:
        """What a job left. Raises :class:`AssertionError` where a file is not there."""
        return Trained(
            ended,
            request,
            out,
            self.launcher.read(ended.stdout),
            self.launcher.read(ended.stderr),
            self.read(ended, f"{out}/metrics.json"),
            self.read(ended, f"{out}/ranks.json"),
            self._watched(out, request) if self.real else {},
        )

    def _watched(self, out: str, request: Request) -> Mapping[int, str]:
        """What nvidia-smi said of the GPU of each process; nothing of one that it was not asked for."""
        told = {
            rank: self.launcher.query("cat", "--", f"{out}/gpu-{rank}.csv", check=False)
            for rank in range(request.nodes * request.per_node)
        }
        return {rank: one.stdout for rank, one in told.items() if one.ok}

    def read(self, ended: Ended, path: str) -> str:
        """A file that a job must have left."""
        told = self.launcher.query("cat", "--", path, check=False)
        assert told.ok, f"{ended.label}: ended well, and left no {path}: {why(told.stderr)}; expected the file"
        return told.stdout

    def look(self, name: str, work: Work, request: Request, out: str) -> Mapping[str, object]:
        """What a new process makes of what a training left in ``out``; once a run."""

        def action() -> Mapping[str, str]:
            data, _ = self.data(work.data)
            flags = (f"--dataset={work.data}", f"--data={data}", f"--model={work.model}", f"--width={work.width}")
            argv = (self.python, "look.py", *flags, f"--out={out}")
            task = Task(f"look-{name}", argv, self.folder, cpus=request.cpus, memory=request.memory)
            ended, said = self.plain(task, work.minutes * 60)
            return {"ended": ended.to_json(), "said": said.strip().splitlines()[-1] if said.strip() else ""}

        said = self.once.told(f"mlops-look-{name}", action)["said"]
        try:
            found = json.loads(said)
        except ValueError:
            raise AssertionError(f"job look-{name}: printed {said[:80]!r}, expected a line of JSON") from None
        assert isinstance(found, dict), f"job look-{name}: printed {said[:80]!r}, expected an object"
        return found
