#!/usr/bin/python3
"""Load what a training job left, in a new process, and say what it is worth: one line of JSON.

``accuracy``    percent of the held-out images that the model tells right
``parameters``  the digest of its parameters
``scalars``     what TensorBoard would show: [epoch, value] by name; null where its reader is not installed
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from data import load
from models import digest, make, right


def arguments() -> argparse.Namespace:
    """What to look at."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars in TensorBoard's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def look(args: argparse.Namespace) -> dict[str, Any]:
    """See above."""
    data = load(args.dataset, args.data)
    model = make(args.model, data.channels, data.size, args.width)
    model.load_state_dict(torch.load(args.out / "model.pt", map_location="cpu", weights_only=True))
    found = right(model, data.held_out_images, data.held_out_labels)
    board = args.out / "tensorboard"
    return {
        "accuracy": 100 * found / len(data.held_out_labels),
        "parameters": digest(model),
        "scalars": scalars(board) if board.is_dir() else {},
    }


if __name__ == "__main__":
    print(json.dumps(look(arguments())))
