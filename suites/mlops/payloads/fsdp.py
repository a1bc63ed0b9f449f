#!/usr/bin/python3
"""Train some steps with parameters that are shared out among the processes (FSDP), and say what each one held.

Rank 0 prints one line of JSON, a list by rank: ``losses`` (the same on all), ``whole`` (how many numbers the network
has), ``part`` (how many of them this process keeps), and where it ran.
"""

import argparse
import json
from pathlib import Path

import torch
from data import load
from models import make
from processes import Me, joined
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh

try:
    from torch.distributed.fsdp import fully_shard  # PyTorch 2.6 and later
except ImportError:
    from torch.distributed._composable.fsdp import fully_shard


def arguments() -> argparse.Namespace:
    """As for train.py; ``--epochs`` is how many steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    for name in ("width", "epochs", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def steps(args: argparse.Namespace, me: Me) -> None:
    """Train on this process's share of each batch."""
    torch.manual_seed(1)
    data = load(args.dataset, args.data).to(me.device)
    model = make("cnn", data.channels, data.size, args.width).to(me.device)
    whole = sum(one.numel() for one in model.parameters())
    mesh = init_device_mesh(me.device.type, (me.size,))
    for layer in model:  # type: ignore[attr-defined]  # a Sequential, called a Module
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    part = sum(one.to_local().numel() for one in model.parameters())  # type: ignore[attr-defined]  # DTensors
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=args.rate), []
    for step in range(args.epochs):
        start = (step * me.size + me.rank) * args.batch
        batch = [index % len(data.labels) for index in range(start, start + args.batch)]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data.images[batch]), data.labels[batch])
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        losses.append(float(mean) / me.size)
    told = me.gathered(me.describe() | {"losses": losses, "whole": whole, "part": part})
    if me.rank == 0:
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    with joined() as process:
        steps(arguments(), process)
