"""Make of published files what Oumi trains on and is judged by.

    prepare.py model SET FOLDER                       a model, with a template for conversations
    prepare.py data SET FOLDER NAME SAMPLES HELD_OUT  train.jsonl, held-out.jsonl and prompts.jsonl
    prepare.py texts SET FILE LINES                   the first lines of WikiText's part for tests

``SET`` is the folder of the files as they were published. The last line of output tells the sizes as JSON.
"""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

#: What the archive of WikiText-2 has.
PASSAGES, TESTS = "wikitext-2-raw/wiki.train.raw", "wikitext-2-raw/wiki.test.raw"
#: Words that a passage must have to be worth going on with.
LONG = 40
PROMPTS = 3
# A model that knows no roles goes on with what was said.
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ eos_token }}"


def conversation(asked: str, said: str) -> dict[str, Any]:
    """One sample."""
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


def no_robots(folder: Path) -> Iterator[dict[str, Any]]:
    """What one person asked and another answered; conversations of more than that are left out."""
    from pyarrow import parquet

    for row in parquet.read_table(folder / "train.parquet", columns=["messages"]).to_pylist():
        told = row["messages"]
        if [one["role"] for one in told] == ["user", "assistant"]:
            yield conversation(told[0]["content"], told[1]["content"])


def alpaca(folder: Path) -> Iterator[dict[str, Any]]:
    """Instructions, with what they are about, and what was to be answered."""
    for row in json.loads((folder / "alpaca_data_cleaned.json").read_text(encoding="utf-8")):
        if row["output"].strip():
            yield conversation("\n\n".join(filter(None, (row["instruction"], row["input"]))), row["output"])


def wikitext(folder: Path) -> Iterator[dict[str, Any]]:
    """Passages, of which the first half is given."""
    for line in lines(folder, PASSAGES):
        words = line.split(" ")
        if len(words) >= LONG:
            yield conversation(" ".join(words[: len(words) // 2]), " " + " ".join(words[len(words) // 2 :]))


def lines(folder: Path, member: str) -> list[str]:
    """A text of the archive, by its lines."""
    with zipfile.ZipFile(folder / "wikitext-2-raw-v1.zip") as archive:
        return archive.read(member).decode().splitlines(keepends=True)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def data(source: str, folder: str, name: str, samples: str, held_out: str) -> dict[str, int]:
    """The first samples of a set to train on, and those that follow them held out."""
    made = {"no-robots": no_robots, "alpaca-cleaned": alpaca, "wikitext-2": wikitext}[name](Path(source))
    count, more, place = int(samples), int(held_out), Path(folder)
    rows = list(islice(made, count + more))
    if len(rows) < count + more:
        raise SystemExit(f"ValueError: {source} has {len(rows)} samples, expected {count} and {more} to be held out")
    held = rows[count:]
    write(place / "train.jsonl", rows[:count])
    write(place / "held-out.jsonl", held)
    write(place / "prompts.jsonl", [{"messages": row["messages"][:1]} for row in held[:PROMPTS]])
    return {"train": count, "held_out": more}


def texts(source: str, file: str, count: str) -> dict[str, int]:
    """The first lines of WikiText's part for tests, as one text."""
    found = lines(Path(source), TESTS)[: int(count)]
    write(Path(file), [{"lines": found}])
    return {"lines": len(found)}


def model(source: str, folder: str) -> dict[str, int]:
    """A model with its tokenizer, which ends what is said by a token of its own and pads on the left."""
    from tiny import TEMPLATE
    from transformers import AutoTokenizer

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(Path(source) / name, place / name)
    tokenizer = AutoTokenizer.from_pretrained(source)
    known = tokenizer.get_vocab()
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = PLAIN
    if "<|im_end|>" in known:  # ChatML; the token that ends a text is then free to pad with
        tokenizer.eos_token = "<|im_end|>"  # noqa: S105  no password
        tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(place)
    return {"vocabulary": len(known)}


PARTS: dict[str, Callable[..., dict[str, int]]] = {"model": model, "data": data, "texts": texts}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](*sys.argv[2:])))
