"""Measure how fast each GPU of this machine moves memory and multiplies matrices; say it as JSON. Needs PyTorch.

    {"torch": "2.11.0+cu130", "devices": [{"name": "NVIDIA H200", "number": 0, "memory": 4249.1, "matrix": 785.7,
      "wrong": 0, "samples": 20, "type": "bfloat16"}]}

``memory`` is GB/s, read and written together, of copies within the GPU. ``matrix`` is TFLOP/s of products of two square
matrices of bfloat16 (float16 where the GPU has none) that hold random numbers: a GPU that multiplies zeros draws less
power and is faster. Both are the median of single ones, timed by the GPU itself, after some that are not counted.
``wrong`` counts the elements of a product of whole numbers that are not exact.
"""

import json
import statistics
import sys
from collections.abc import Callable
from itertools import pairwise

import torch

SAMPLES, WARM = 20, 5
#: Bytes of a copy: many times what any cache holds; and the side of a matrix, of which three must fit.
COPIED, SIDE = 2**30, 8192


def main() -> int:
    """Print what each GPU can do."""
    found = [device(number) for number in range(torch.cuda.device_count())]
    print(json.dumps({"torch": torch.__version__, "devices": found}))
    return 0


def device(number: int) -> dict[str, object]:
    """One GPU."""
    torch.cuda.set_device(number)
    torch.manual_seed(1)
    kind = torch.bfloat16 if torch.cuda.get_device_capability(number) >= (8, 0) else torch.float16
    free, _ = torch.cuda.mem_get_info(number)
    size, side = COPIED, SIDE
    while 2 * size > free // 2:
        size //= 2
    while 3 * side * side * 2 > free // 2:
        side //= 2
    return {
        "name": torch.cuda.get_device_name(number),
        "number": number,
        "memory": copied(size),
        "matrix": multiplied(side, kind),
        "wrong": wrong(kind),
        "samples": SAMPLES,
        "type": str(kind).removeprefix("torch."),
    }


def copied(size: int) -> float:
    """GB/s of copies of ``size`` bytes: each byte is read once and written once."""
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source)) / 1e9


def multiplied(side: int, kind: torch.dtype) -> float:
    """TFLOP/s of products of two matrices: a multiplication and an addition for each of side cubed pairs."""
    left, right = (torch.randn(side, side, device="cuda").to(kind) for _ in range(2))
    product = torch.empty_like(left)
    return 2 * side**3 / seconds(lambda: torch.mm(left, right, out=product)) / 1e12


def wrong(kind: torch.dtype) -> int:
    """How many elements of a product of small whole numbers differ from the one that the CPU makes of them.

    Their sums are below 256, up to which bfloat16 holds every whole number.
    """
    left, right = (torch.randint(-1, 2, (200, 200)) for _ in range(2))
    found = torch.mm(left.to("cuda", kind), right.to("cuda", kind)).cpu().to(torch.int64)
    return int((found != left @ right).sum())


def seconds(call: Callable[[], object]) -> float:
    """The median time of one call, by the GPU's own clock."""
    for _ in range(WARM):
        call()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(SAMPLES + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return float(statistics.median(one.elapsed_time(two) for one, two in pairwise(marks))) / 1e3


if __name__ == "__main__":
    sys.exit(main())
