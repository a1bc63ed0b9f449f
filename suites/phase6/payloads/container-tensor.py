#!/usr/bin/python3
"""Compute with PyTorch what can be checked by whole numbers; tell the results as JSON.

Arguments: the size of the matrices. Their elements are those of the generator x -> (1103515245 x + 12345) mod 2^31,
reduced to -8 … 7, so that whoever checks can make them again.
"""

import json
import os
import sys

import torch


def numbers(count: int, state: int) -> list[int]:
    """Small whole numbers that look random."""
    found = []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        found.append((state >> 16) % 16 - 8)
    return found


size = int(sys.argv[1])
left = torch.tensor(numbers(size * size, 1), dtype=torch.float64).reshape(size, size)
right = torch.tensor(numbers(size * size, 2), dtype=torch.float64).reshape(size, size)
x = torch.tensor(numbers(size, 3), dtype=torch.float64, requires_grad=True)
(left @ x).square().sum().backward()
whole = left.to(torch.int64) @ right.to(torch.int64)
print(
    json.dumps(
        {
            "node": os.uname().nodename,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "product": (left @ right).tolist(),
            "single": (left.float() @ right.float()).tolist(),
            "whole": whole.tolist(),
            "gradient": x.grad.tolist(),
        }
    )
)
