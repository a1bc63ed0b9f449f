"""Evaluation functions of our own, which Oumi loads because OUMI_EXTRA_DEPS_FILE names this file."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measures
import torch
from oumi.core.configs import EvaluationConfig
from oumi.core.inference import BaseInferenceEngine
from oumi.core.registry import register_evaluation_function
from oumi.core.types.conversation import Conversation, Message, Role
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = 3


def record(folder: Path, task: str, found: dict[str, Any]) -> dict[str, Any]:
    """Add what a task found to ``results.json``, beside what Oumi itself writes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | {task: found}), encoding="utf-8")
    return found


@register_evaluation_function("ai_how_answers")
def answers(inference_engine: BaseInferenceEngine, held_out: str, folder: str) -> dict[str, Any]:
    """Let the model answer what is held out; write the answers to the first prompts as ``generations.txt``."""
    rows = [json.loads(line)["messages"] for line in Path(held_out).read_text(encoding="utf-8").splitlines()]
    asked = [Conversation(messages=[Message(role=Role.USER, content=row[0]["content"])]) for row in rows]
    said = [str(one.last_message(Role.ASSISTANT).content) for one in inference_engine.infer(asked)]
    wanted = [row[1]["content"] for row in rows]
    pairs = list(zip(said, wanted, strict=True))
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    told = [f"### {json.dumps(row[0]['content'])}\n{text}\n" for row, text in zip(rows[:PROMPTS], said, strict=False)]
    (place / "generations.txt").write_text("".join(told), encoding="utf-8")
    found = {
        "samples": len(rows),
        "exact": measures.exact(said, wanted),
        "bleu": measures.bleu(said, wanted),
        "rouge_l": sum(measures.rouge_l(*pair) for pair in pairs) / len(pairs),
        "signs": [measures.signs(text) for text in said[:PROMPTS]],
    }
    return record(place, "ai_how_answers", found)


def pieces(row: dict[str, Any], tokenizer: Any, longest: int) -> Iterator[tuple[torch.Tensor, int]]:
    """The tokens of a row, as the model gets them, and at which one it begins to be judged.

    A conversation is one piece, judged by its answer. Lines of a text are cut into the longest pieces that there can
    be; of each the first token is given.
    """
    if "lines" in row:
        whole = tokenizer("".join(row["lines"]), return_tensors="pt")["input_ids"]
        yield from ((piece, 1) for piece in whole.split(longest, dim=1) if piece.shape[1] > 1)
        return
    messages = row["messages"]
    asked = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer(asked + messages[1]["content"] + tokenizer.eos_token, return_tensors="pt")["input_ids"]
    yield whole, len(tokenizer(asked)["input_ids"])


@register_evaluation_function("ai_how_perplexity")
def perplexity(config: EvaluationConfig, held_out: str, folder: str) -> dict[str, Any]:
    """The perplexity of what is held out: of each answer, given what was asked, or of a text."""
    name, longest = str(config.model.model_name), int(config.model.model_max_length or 512)
    tokenizer = AutoTokenizer.from_pretrained(name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32).eval().to(device)
    rows = [json.loads(line) for line in Path(held_out).read_text(encoding="utf-8").splitlines()]
    loss, tokens = 0.0, 0
    for whole, begins in (piece for row in rows for piece in pieces(row, tokenizer, longest)):
        given = whole.to(device)
        labels = given.clone()
        labels[:, :begins] = -100
        with torch.no_grad():
            mean = model(input_ids=given, labels=labels).loss.item()
        count = whole.shape[1] - begins
        loss, tokens = loss + mean * count, tokens + count
    samples = sum(len(row["lines"]) if "lines" in row else 1 for row in rows)
    found = {"samples": samples, "tokens": tokens, "perplexity": math.exp(loss / tokens)}
    return record(Path(folder), "ai_how_perplexity", found)
