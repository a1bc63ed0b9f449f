"""Train as a configuration of Oumi says, on samples that lie on the GPU beforehand: how busy the model keeps it.

    pace.py CONFIG

Nothing has to be read, nobody is waited for, and the weights hardly change. nvidia-smi says meanwhile how busy the GPU
is. The last line of output tells as JSON how many batches were done in how many seconds.
"""

import json
import sys
import time
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

#: How many batches lie ready, how many are done before the clock starts, and for how many seconds it runs.
READY, WARM, SECONDS = 16, 4, 15.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def batches(config: dict[str, Any]) -> list[Any]:
    """The first samples, each batch as long as its longest, where the model computes."""
    tokenizer = AutoTokenizer.from_pretrained(config["model"]["tokenizer_name"])
    size = config["training"]["per_device_train_batch_size"]
    with Path(config["data"]["train"]["datasets"][0]["dataset_path"]).open(encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in islice(file, READY * size)]
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in rows]
    cut = {"padding": True, "truncation": True, "max_length": config["model"]["model_max_length"]}
    parts = [texts[at : at + size] for at in range(0, len(texts), size)]
    return [tokenizer(part, return_tensors="pt", **cut).to(DEVICE) for part in parts]


def wait() -> None:
    """Until the GPU has done all that it was told to do."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def main(config: dict[str, Any]) -> dict[str, float]:
    """Train, and count."""
    ready, said = batches(config), config["model"]
    kind = {"dtype": getattr(torch, said["torch_dtype_str"]), "attn_implementation": said["attn_implementation"]}
    model = AutoModelForCausalLM.from_pretrained(said["model_name"], **kind).to(DEVICE).train()
    mixed = config["training"]["mixed_precision_dtype"] == "BF16"
    parts = config["training"]["gradient_accumulation_steps"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-8)
    began = 0.0
    for number in count(1):
        batch = ready[number % len(ready)]
        with torch.autocast(DEVICE, torch.bfloat16, enabled=mixed):
            loss = model(**batch, labels=batch["input_ids"]).loss
        (loss / parts).backward()
        if number % parts == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if number == WARM:
            wait()
            began = time.monotonic()
        elif number > WARM and time.monotonic() - began > SECONDS:
            break
    wait()
    return {"batches": number - WARM, "seconds": time.monotonic() - began}


if __name__ == "__main__":
    print(json.dumps(main(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8")))))
