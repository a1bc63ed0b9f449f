"""What a training job leaves: checkpoints that are whole or not there, and JSON. Nothing of it needs PyTorch."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

INDEX = "checkpoint.json"


class BadCheckpoint(Exception):
    """A checkpoint is not what was written. It is not trained on from, and not begun anew in silence."""


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the process is killed."""
    new = path.with_name(f".{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all. A loss that is no number is written as NaN, for whoever judges it to see."""
    write(path, json.dumps(value).encode())


def save(folder: Path, epoch: int, content: bytes) -> None:
    """Keep the state after ``epoch``. The index, written last, says which file holds and what its digest is."""
    name = f"checkpoint-{epoch}.pt"
    write(folder / name, content)
    write_json(folder / INDEX, {"epoch": epoch, "file": name, "sha256": hashlib.sha256(content).hexdigest()})
    for old in folder.glob("checkpoint-*.pt"):
        if old.name != name:
            old.unlink(missing_ok=True)


def latest(folder: Path) -> tuple[int, bytes]:
    """The last epoch that was kept, and its state; (0, b"") when none was. Raises :class:`BadCheckpoint`."""
    index = folder / INDEX
    if not index.exists():
        return 0, b""
    try:
        said = json.loads(index.read_bytes())
        epoch, name, wanted = int(said["epoch"]), Path(said["file"]).name, said["sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise BadCheckpoint(f"{index} cannot be read: {error!r}") from error
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"{folder / name}: {error.strerror}, and {INDEX} says that it is there") from error
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise BadCheckpoint(f"{folder / name} has the SHA-256 {found}, and {INDEX} says {wanted}")
    return epoch, content
