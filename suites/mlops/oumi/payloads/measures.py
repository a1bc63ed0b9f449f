"""What answers of a language model are worth: shares, BLEU, ROUGE-L, and signs that a text is no language.

Nothing but numbers and texts goes in, so that it can be tried anywhere.
"""

import math
import re
from collections import Counter
from itertools import pairwise


def exact(answers: list[str], references: list[str]) -> float:
    """The share of answers that are the reference, but for blanks around it.

    >>> exact([" a b", "c"], ["a b", "d"])
    0.5
    """
    return sum(a.strip() == b.strip() for a, b in zip(answers, references, strict=True)) / len(references)


def common(first: list[str], second: list[str]) -> int:
    """The length of the longest common subsequence.

    >>> common("the cat sat on".split(), "the old cat on".split())
    3
    """
    row = [0] * (len(second) + 1)
    for word in first:
        before = row
        row = [0]
        for at, other in enumerate(second):
            row.append(before[at] + 1 if word == other else max(row[at], before[at + 1]))
    return row[-1]


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L with precision and recall of one weight (Lin 2004, "ROUGE: A Package for Automatic Evaluation").

    >>> rouge_l("a b c d", "a c")
    0.6666666666666666
    """
    mine, its = answer.split(), reference.split()
    shared = common(mine, its)
    return 2 * shared / (len(mine) + len(its)) if shared else 0.0


def bleu(answers: list[str], references: list[str], order: int = 2) -> float:
    """Corpus BLEU of words up to n-grams of ``order``, from 0 to 1 (Papineni 2002), without smoothing.

    >>> bleu(["a b c"], ["a b c"]), bleu(["x"], ["a b c"])
    (1.0, 0.0)
    """
    mine, its = [one.split() for one in answers], [one.split() for one in references]
    logs = []
    for size in range(1, order + 1):
        hits = total = 0
        for answer, reference in zip(mine, its, strict=True):
            grams, allowed = _grams(answer, size), _grams(reference, size)
            hits += sum(min(count, allowed[gram]) for gram, count in grams.items())
            total += sum(grams.values())
        if not hits:
            return 0.0
        logs.append(math.log(hits / total))
    long, wanted = sum(map(len, mine)), sum(map(len, its))
    brevity = 1.0 if long >= wanted else math.exp(1 - wanted / long)
    return brevity * math.exp(sum(logs) / order)


def _grams(words: list[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))


def signs(text: str) -> dict[str, float]:
    """How long a text is in words, what share of its words it says again at once, and what share can't be printed.

    >>> signs("no no yes")
    {'words': 3, 'repeated': 0.5, 'unprintable': 0.0}
    """
    words = re.findall(r"\S+", text)
    again = sum(a == b for a, b in pairwise(words))
    odd = sum(not (one.isprintable() or one in "\n\t") or one == "\ufffd" for one in text)
    return {
        "words": len(words),
        "repeated": again / (len(words) - 1) if len(words) > 1 else 0.0,
        "unprintable": odd / len(text) if text else 0.0,
    }
