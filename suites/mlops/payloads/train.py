#!/usr/bin/python3
"""Train a network, alone or by all processes that torchrun starts, and leave what it came to in a folder.

``metrics.json``   what came of it, by the schema of suites/mlops/_metrics.py
``ranks.json``     of each process: where it ran, its samples of each epoch, the digest of its parameters after each
``model.pt``       the parameters
``checkpoint*``    the state after the last whole epoch; ``--resume`` goes on from it
``tensorboard/``   loss and accuracy of each epoch, with ``--tensorboard``

    python3 train.py --dataset=mnist --data=data --model=cnn --width=32 --epochs=5 --batch=128 --rate=0.001 --out=out
    torchrun --nproc-per-node=2 train.py …
"""

import argparse
import io
import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from data import Data, load
from files import latest, save, write, write_json
from graphs import graphed
from models import digest, make, right
from processes import Me, joined
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler
from watch import watch


def arguments() -> argparse.Namespace:
    """What is asked for; ``--batch`` is that of one process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=["cnn", "resnet"], required=True)
    for name in ("width", "epochs", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, which must be there")
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("--hold", type=int, default=0, help="stay in the midst of this epoch, to be killed there")
    parser.add_argument("--hold-rank", type=int, default=0, help="which process does so; the others wait for it")
    return parser.parse_args()


class Training:
    """A network, its optimizer, and how far it has come. After each epoch everything can be had again as it was."""

    def __init__(self, args: argparse.Namespace, me: Me, data: Data) -> None:
        torch.manual_seed(args.seed)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self.args, self.me, self.data = args, me, data
        self.model = make(args.model, data.channels, data.size, args.width).to(me.device)
        self.initial = digest(self.model)
        cuda = me.device.type == "cuda"
        # fused: one kernel in place of dozens, whose start takes as long as all else of a small network's step.
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(self.model.parameters(), lr=args.rate, fused=cuda)
            if args.model == "cnn"
            else torch.optim.SGD(self.model.parameters(), lr=args.rate, momentum=0.9, fused=cuda)
        )
        self.epoch, self.resumed_from = 0, 0
        self.history: list[dict[str, float]] = []
        self.samples: list[list[int]] = []
        self.parameters: list[str] = []
        if args.resume:
            self._resume()
        if cuda:
            graphed(self.model, data.images[: args.batch])
        ids = [me.device.index] if cuda else None
        self.shared = self.model if me.alone else DistributedDataParallel(self.model, device_ids=ids)

    def _resume(self) -> None:
        self.epoch, content = latest(self.args.out)
        if not self.epoch:
            raise SystemExit(f"{self.args.out}: no checkpoint to go on from")
        state = torch.load(io.BytesIO(content), map_location=self.me.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())
        self.history, self.resumed_from = state["history"], self.epoch

    def run_epoch(self) -> None:
        """One epoch over this process's part of the samples, and how many of those held out are told right then."""
        began, loss = time.monotonic(), self._steps()
        if self.me.device.type == "cuda":
            torch.cuda.synchronize(self.me.device)
        seconds = time.monotonic() - began
        self.epoch += 1
        count = len(self.data.labels)
        self.parameters.append(digest(self.model))
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": loss,
                "accuracy": self.accuracy(),
                "seconds": seconds,
                "samples_per_second": count / seconds,
            }
        )

    def _steps(self) -> float:
        """All steps of an epoch; the mean loss over the samples of all processes."""
        mine = self.indices()
        self.shared.train()
        # The order is sent once and the losses are fetched once: a GPU idles in a step that this process waits for.
        batches = torch.tensor(mine, device=self.me.device).split(self.args.batch)
        losses: list[torch.Tensor] = []
        for number, batch in enumerate(batches):
            if 2 * number >= len(batches):
                self._hold()
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.shared(self.data.images[batch]), self.data.labels[batch])
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        self.samples.append(mine)
        sizes = torch.tensor([len(batch) for batch in batches], device=self.me.device).double()
        total = torch.stack([torch.stack(losses).double() @ sizes, sizes.sum()])
        if not self.me.alone:
            distributed.all_reduce(total)
        return float(total[0] / total[1])

    def _hold(self) -> None:
        """In the midst of the epoch that was asked for, say so and wait there: whoever asked kills this process now."""
        if (self.epoch + 1, self.me.rank) != (self.args.hold, self.args.hold_rank):
            return
        write(self.args.out / f"held-{self.me.rank}", f"{os.uname().nodename} {os.getpid()}\n".encode())
        time.sleep(600)
        raise SystemExit("nobody killed this process, as was said with --hold")

    def indices(self) -> list[int]:
        """The samples of this process in the next epoch, in another order each time."""
        sampler: DistributedSampler[int] = DistributedSampler(
            range(len(self.data.labels)), self.me.size, self.me.rank, shuffle=True, seed=self.args.seed
        )
        sampler.set_epoch(self.epoch)
        return list(sampler)

    def accuracy(self) -> float:
        """Percent of the held-out images that are told right, each process looking at its part of them."""
        if not self.me.alone:
            for buffer in self.model.buffers():  # statistics of batches are each process's own
                distributed.broadcast(buffer, 0)
        part = slice(self.me.rank, None, self.me.size)
        found = right(self.model, self.data.held_out_images[part], self.data.held_out_labels[part])
        told = torch.tensor(found, dtype=torch.int64, device=self.me.device)
        if not self.me.alone:
            distributed.all_reduce(told)
        return 100 * int(told) / len(self.data.held_out_labels)

    def keep(self) -> None:
        """A checkpoint, by the first process."""
        if self.me.rank == 0:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "history": self.history,
            }
            save(self.args.out, self.epoch, packed(state))


def packed(state: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def train(args: argparse.Namespace, me: Me) -> None:
    """Train to the last epoch, and write down what came of it."""
    training = Training(args, me, load(args.dataset, args.data).to(me.device))
    board = None
    if args.tensorboard and me.rank == 0:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(str(args.out / "tensorboard"))
    began, watching = time.monotonic(), None
    while training.epoch < args.epochs:
        training.run_epoch()
        training.keep()
        watching = watching or watched(me, args.out)  # from the first epoch on, in which much is made ready
        if board:
            last = training.history[-1]
            board.add_scalar("loss", last["loss"], training.epoch)
            board.add_scalar("accuracy", last["accuracy"], training.epoch)
        print(f"epoch {training.epoch}: loss {training.history[-1]['loss']:.4f}", flush=True)
    seconds = time.monotonic() - began
    if watching:
        watching.terminate()
        watching.wait()
    if board:
        board.close()
    mine = {"initial": training.initial, "parameters": training.parameters, "samples": training.samples}
    ranks = me.gathered(me.describe() | mine)
    if me.rank == 0:
        write(args.out / "model.pt", packed(training.model.state_dict()))
        write_json(args.out / "ranks.json", ranks)
        write_json(args.out / "metrics.json", metrics(args, training, seconds, ranks))


def watched(me: Me, out: Path) -> subprocess.Popen[bytes] | None:
    """Have nvidia-smi write down twice a second what the GPU of this process does, where there is one."""
    if me.device.type != "cuda":
        return None
    uuid = str(torch.cuda.get_device_properties(me.device).uuid).removeprefix("GPU-")
    return watch(out / f"gpu-{me.rank}.csv", f"GPU-{uuid}")


def metrics(
    args: argparse.Namespace, training: Training, seconds: float, ranks: list[dict[str, Any]]
) -> dict[str, Any]:
    """What came of it. Accuracy is in percent, of the held-out images after the last epoch."""
    last = training.history[-1]
    if not math.isfinite(last["loss"]):
        print(f"loss is {last['loss']} after epoch {training.epoch}", flush=True)
    return {
        "schema": 1,
        "epochs": training.epoch,
        "loss": last["loss"],
        "accuracy": last["accuracy"],
        "training_time_seconds": seconds,
        "dataset": args.dataset,
        "model": args.model,
        "samples": len(training.data.labels),
        "held_out": len(training.data.held_out_labels),
        "batch": args.batch,
        "seed": args.seed,
        "processes": len(ranks),
        "backend": ranks[0]["backend"],
        "device": ranks[0]["device"],
        "torch": torch.__version__,
        "resumed_from": training.resumed_from,
        "parameters": digest(training.model),
        "history": training.history,
    }


if __name__ == "__main__":
    with joined() as process:
        train(arguments(), process)
