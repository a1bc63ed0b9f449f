"""A network's forward and backward passes as CUDA graphs: what a GPU does is sent once, and not kernel by kernel.

A small network's kernels take a fast GPU less time than this process takes to start them one by one: a step of
MNIST's network with 128 images is 0.8 ms of work to an H200, and was 2 ms on the clock. What was measured then was the
interpreter, not the GPU.
"""

import torch
from torch import nn


def graphed(model: nn.Module, images: torch.Tensor) -> None:
    """From now on ``model`` trains on batches in the shape of ``images`` by graphs, and on others as before.

    To be called before the processes share their gradients: these stay outside of the graphs, as NCCL wants it. What
    the network has counted of batches (its buffers) is as it was.
    """
    # The thread that goes back gets its context from a kernel; if its first is a matrix product, PyTorch warns.
    torch.ones(1, device=images.device, requires_grad=True).exp().backward()
    # Gradients are added up on the graphs' own stream, which is meant: PyTorch 2.11 waits for it, and warns.
    if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    plain = model.forward
    model.train()
    torch.cuda.make_graphed_callables(model, (images,))
    fixed = model.forward
    for buffer, before in kept:
        buffer.copy_(before)

    def forward(some: torch.Tensor) -> torch.Tensor:
        return fixed(some) if some.shape == images.shape else plain(some)  # type: ignore[no-any-return]  # Any, says torch

    model.forward = forward  # type: ignore[method-assign]  # as torch has just done
