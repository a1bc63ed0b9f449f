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


def bad_lines(text: str) -> tuple[str, ...]:
    r"""The lines that tell of an error, or of a warning of CUDA or NCCL.

    >>> bad_lines("epoch 1: loss 0.5\nRuntimeError: CUDA error: out of memory\nINFO: 0 errors\n")
    ('RuntimeError: CUDA error: out of memory',)
    """
    return tuple(line for line in text.splitlines() if _ERRORS.search(line) or _WARNINGS.search(line))


def clean(where: str, streams: Iterable[tuple[str, str]]) -> None:
    """Hold the streams (name and text) of a job to having no such line."""
    for name, text in streams:
        if found := bad_lines(text):
            raise AssertionError(
                f"{where}: {name} has {len(found)} bad lines, first {found[0].strip()!r}; expected none"
            )
