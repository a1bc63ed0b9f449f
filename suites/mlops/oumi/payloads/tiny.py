"""Make a tiny Llama with a tokenizer of its own, and a task that it can learn, out of nothing but a seed.

    tiny.py MODEL DATA SAMPLES HELD_OUT

The task is to say a word again, however it was asked for: "say disk slowly" is answered by "here is disk". Pairs of
word and manner that are held out are none of those that are trained on; each word and each manner is. The last line of
output tells the sizes as JSON.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ("node", "gpu", "rack", "switch", "disk", "fabric", "login", "slurm", "queue", "cable", "fan", "core")
MANNERS = ("please", "now", "again", "slowly", "loudly", "once", "twice", "softly", "first", "last", "here", "today")
SEED = 7
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
# ChatML, as SmolLM has it.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def conversation(word: str, manner: str) -> dict[str, Any]:
    """One sample."""
    asked, said = f"say {word} {manner}", f"here is {word}"
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


def split(samples: int, held_out: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Conversations to train on, drawn with repetition, and others that are held out, each once."""
    chance = random.Random(SEED)  # noqa: S311  the same each time is what is wanted
    pairs = [(word, manner) for word in WORDS for manner in MANNERS]
    chance.shuffle(pairs)
    held, known = pairs[:held_out], pairs[held_out:]
    return [conversation(*chance.choice(known)) for _ in range(samples)], [conversation(*pair) for pair in held]


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer trained on the texts. It pads on the left: what is generated goes on from the last token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=384, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[3],
        unk_token=SPECIAL[0],
        chat_template=TEMPLATE,
        model_max_length=64,
        padding_side="left",
    )


def main(place: Path, folder: Path, samples: int, held_out: int) -> None:
    """Write the model into ``place``; ``train.jsonl``, ``held-out.jsonl`` and ``prompts.jsonl`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    train, held = split(samples, held_out)
    for name, rows in (("train", train), ("held-out", held), ("prompts", [_prompt(row) for row in held[:3]])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    texts = [message["content"] for row in train for message in row["messages"]]
    tokenizer = tokenizer_of([*texts, "user", "assistant", "system"])
    tokenizer.save_pretrained(place)
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        # Of Llama's own 0.02 so small a network learns nothing in a hundred steps.
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(place)
    sizes = {"parameters": sum(one.numel() for one in model.parameters()), "train": len(train), "held_out": len(held)}
    print(json.dumps(sizes))


def _prompt(row: dict[str, Any]) -> dict[str, Any]:
    return {"messages": row["messages"][:1]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
