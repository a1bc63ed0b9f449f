"""``results.json`` of an evaluation, and ``generations.txt`` beside it."""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ._json import parsed

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Signs(_Strict):
    """How long an answer is in words, and the shares of words said again at once and of what can't be printed."""

    words: int
    repeated: Share
    unprintable: Share


class Answers(_Strict):
    """What the answers to what was held out are worth."""

    samples: Count
    exact: Share
    bleu: Share
    rouge_l: Share
    signs: Annotated[tuple[Signs, ...], Field(min_length=1)]


class Perplexity(_Strict):
    """How surprised the model is by the right answers."""

    samples: Count
    tokens: Count
    perplexity: Annotated[float, Field(ge=1)]


class Results(_Strict):
    """Both tasks."""

    ai_how_answers: Answers
    ai_how_perplexity: Perplexity


def parse_results(text: str, where: str) -> Results:
    """Read ``results.json``. Raises :class:`AssertionError` naming the first thing that is wrong."""
    return parsed(Results, text, where)


def parse_generations(text: str) -> tuple[tuple[str, str], ...]:
    r"""Prompts and what was generated, of ``generations.txt``; a prompt is a JSON string, for it may have lines.

    >>> parse_generations('### "say\\na"\n# a\nb\n### "say c"\n\n')
    (('say\na', '# a\nb'), ('say c', ''))
    """
    parts = re.split(r'^### (".*")\n', text, flags=re.MULTILINE)[1:]
    return tuple((str(json.loads(prompt)), said.strip()) for prompt, said in zip(parts[::2], parts[1::2], strict=True))
