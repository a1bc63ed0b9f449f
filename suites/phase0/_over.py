"""Running a command in an image's root with files laid over it: no machine is made, and the image is not written to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_ai_how.drivers.machines.render import File
from pytest_ai_how.errors import CommandError
from pytest_ai_how.image.sandbox import Sandbox
from pytest_ai_how.shell import Result

# What the command writes goes into memory. The sandbox's own mount namespace takes all mounts along when it ends.
_LAID_OVER = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$3"
mkdir "$3/upper" "$3/work" "$3/root"
mount -t overlay -o "lowerdir=$1:$2,upperdir=$3/upper,workdir=$3/work" overlay "$3/root"
mount -t proc proc "$3/root/proc"
root=$3/root
shift 3
exec chroot "$root" "$@"
"""


def lay_out(folder: Path, files: Iterable[File]) -> Path:
    """Write ``files`` below ``folder`` (which is made) as they are to lie in the root, all owned by root."""
    folder.mkdir(mode=0o755)
    for file in files:
        place = folder / file.path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(mode=0o600)
        place.write_bytes(file.content)
        place.chmod(file.mode)
    return folder


def run_over(root: Path, layer: Path, scratch: Path, argv: Sequence[str], sandbox: Sandbox) -> Result:
    """Run ``argv`` in ``root`` with the files of ``layer`` over it, as root; ``scratch`` is an empty folder.

    Standard error is part of the output. Whatever the exit status, it is an outcome.
    """
    try:
        command = ["sh", "-c", _LAID_OVER, "sh", str(layer), str(root), str(scratch), *argv]
        said = sandbox.run(command, keep=None)
    except CommandError as error:
        said = error.result
    return Result(tuple(argv), said.returncode, said.stdout, node="image")
