"""Lines of a job's output that tell of an error, though the job may have gone on."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What no job that is well says. Words are looked for in the forms in which PyTorch 2.6 to 2.13, CUDA, NCCL, gloo,
#: Slurm and the kernel write them; "error" in a name or "0 errors" is no error.
_ERRORS = re.compile(
    r"""
    ^Traceback\ \(most\ recent\ call\ last\)     # Python
    | ^\w*(Error|Exception|Interrupt)\b:         # … and the last line of it
    | \b(CUDA|cuDNN|CUBLAS|NCCL|Gloo|gloo)\b.*\b([Ee]rror|ERROR|[Ff]ailure|[Tt]imed?\ ?out)\b
    | \b(cuda|nccl)(Error|UnhandledCudaError|SystemError)\w*
    | \bNCCL\ WARN\b
    | \bXid\ \(
    | ^slurmstepd(-\S+)?:\ error:
    | ^srun:\ error:
    | \b[Oo]ut\ of\ memory\b | \boom[-_]kill | \bSegmentation\ fault\b | \bcore\ dumped\b
    | ^\[\w*\d{4}.*\]\s*ERROR\b | ^E\d{4}\ \d\d:\d\d | ^ERROR\b
    | \bbroken\ pipe\b | \bConnection\ (reset|closed)\ by\ peer\b
    """,
    re.VERBOSE,
)
#: Warnings of which the plan says that there are none (MLOPS-1.1: "no CUDA errors or warnings").
_WARNINGS = re.compile(r"\b(CUDA|cuda|cuDNN|NCCL)\b.*\b[Ww]arning\b|\bUserWarning:.*\b(CUDA|cuda|NCCL)\b")

#: torchrun's agents wait for each other at the end, when their workers have ended: all ask the store that one of them
#: keeps, which may be gone before another one has its answer (``_exit_barrier`` and ``barrier`` of
#: torch/distributed/elastic in PyTorch 2.6 to 2.13). The line's beginning is that of all lines of the record.
_EXIT_BARRIER = re.compile(
    r"^(E\d{4} [\d:.]+ \d+ torch/distributed/elastic/agent/server/api\.py:\d+\]) Error waiting on exit barrier\."
)
#: How such a record ends when the store was gone. Another end, an agent that did not come in time, is an error.
_STORE_GONE = "torch.distributed.DistNetworkError: "
#: What the client of the store says beside it.
_STORE_CLIENT = re.compile(r"^\[W\d{4} [\d:.]+ TCPStore\.cpp:\d+\]")


def bad_lines(text: str) -> tuple[str, ...]:
    r"""The lines that tell of an error, or of a warning of CUDA or NCCL.

    >>> bad_lines("epoch 1: loss 0.5\nRuntimeError: CUDA error: out of memory\nINFO: 0 errors\n")
    ('RuntimeError: CUDA error: out of memory',)
    """
    lines = _without_store_gone(text.splitlines())
    return tuple(line for line in lines if _ERRORS.search(line) or _WARNINGS.search(line))


def _without_store_gone(lines: list[str]) -> list[str]:
    """The lines without those that say that torchrun's store was gone before the last agent was."""
    begins = {match[1] for line in lines if (match := _EXIT_BARRIER.match(line))}
    gone = tuple(begin for begin in begins if any(line.startswith(f"{begin} {_STORE_GONE}") for line in lines))
    return [line for line in lines if not line.startswith(gone) and not _STORE_CLIENT.match(line)] if gone else lines


def clean(where: str, streams: Iterable[tuple[str, str]]) -> None:
    """Hold the streams (name and text) of a job to having no such line."""
    for name, text in streams:
        if found := bad_lines(text):
            raise AssertionError(
                f"{where}: {name} has {len(found)} bad lines, first {found[0].strip()!r}; expected none"
            )
