#!/usr/bin/python3
"""Train a small network by DistributedDataParallel with a DistributedSampler, and once more by one process alone.

Told are the hashes of the parameters before anything was shared and after each epoch, the samples that each process
saw in each epoch, the losses, and how far the parameters are from those of one process that saw all samples.
"""

import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from processes import tell, together
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

SAMPLES, FEATURES, BATCH, EPOCHS, RATE = 256, 8, 16, 3, 0.05


def data(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Points, and a smooth function of them; the same in every process."""
    generator = torch.Generator().manual_seed(7)
    points = torch.randn(SAMPLES, FEATURES, dtype=torch.float64, generator=generator)
    return points.to(device), torch.sin(points.sum(1, keepdim=True)).to(device)


def network() -> nn.Module:
    """In double precision, so that the order of sums matters little."""
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.Tanh(), nn.Linear(32, 1)).double()


def digest(model: nn.Module) -> str:
    """SHA-256 of all parameters, bit by bit."""
    whole = hashlib.sha256()
    for parameter in model.parameters():
        whole.update(parameter.detach().cpu().numpy().tobytes())
    return whole.hexdigest()


def indices(rank: int, epoch: int) -> list[int]:
    """The samples of one process in one epoch."""
    sampler: DistributedSampler[int] = DistributedSampler(
        range(SAMPLES), num_replicas=distributed.get_world_size(), rank=rank, shuffle=True, seed=1
    )
    sampler.set_epoch(epoch)
    return list(sampler)


def batches(of: list[int]) -> Iterator[list[int]]:
    """Samples, some at a time."""
    return (of[start : start + BATCH] for start in range(0, len(of), BATCH))


def epoch_of(model: nn.Module, device: torch.device, samples: list[list[int]]) -> float:
    """One epoch over these batches; the mean loss."""
    points, values = data(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    losses: list[float] = []
    for batch in samples:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(points[batch]), values[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def train(device: torch.device) -> dict[str, Any]:
    """Train twice from the same parameters: together, and alone with everybody's samples."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(100 + rank)
    model = network().to(device)
    found: dict[str, Any] = {"initial": digest(model), "parameters": [], "samples": [], "losses": []}
    shared = DistributedDataParallel(model)
    alone = copy.deepcopy(model)
    found["shared"] = digest(model)
    for epoch in range(EPOCHS):
        mine = indices(rank, epoch)
        found["losses"].append(epoch_of(shared, device, list(batches(mine))))
        found["samples"].append(mine)
        found["parameters"].append(digest(model))
        steps = zip(*(batches(indices(one, epoch)) for one in range(size)), strict=True)
        epoch_of(alone, device, [[sample for part in step for sample in part] for step in steps])
    pairs = zip(model.parameters(), alone.parameters(), strict=True)
    return found | {"total": SAMPLES, "apart": max((a - b).detach().abs().max().item() for a, b in pairs)}


if __name__ == "__main__":
    with together() as joined:
        tell(joined, train(joined))
