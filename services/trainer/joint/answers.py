"""How well generated answers agree with those of held-out rows.

Invariant: each measure is a mean over the same rows, so that their curves can be laid over one another.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.trainer.data.examples import Example
from services.trainer.joint.dataset import Rows
from services.trainer.settings import Metric

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the answer that is expected, both in tokens."""

    prompt: Example
    expected: tuple[int, ...]


def questions(rows: Rows, wanted: int) -> list[Question]:
    """The first `wanted` rows that answer a prompt; of a pair the better answer is expected."""
    found: list[Question] = []
    for row in range(len(rows)):
        if len(found) == wanted:
            break
        if (asked := question(rows.sequences([row])[0])) is not None:
            found.append(asked)
    return found


def question(example: Example) -> Question | None:
    """What the last answer of a row was said to; None for a row that is learned from its first token on."""
    supervised = example.supervised
    end = max((index for index, kept in enumerate(supervised) if kept), default=-1) + 1
    begin = end
    while begin and supervised[begin - 1]:
        begin -= 1
    if not begin or begin == end:
        return None
    return Question(Example(example.tokens[:begin], (False,) * begin), example.tokens[begin:end])


def measures(answers: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Means over pairs of (given, expected) answers, between 0 and 1, by metric."""
    return {
        Metric.EXACT_MATCH.value: _mean([float(given.split() == expected.split()) for given, expected in answers]),
        Metric.TOKEN_F1.value: _mean([token_f1(given, expected) for given, expected in answers]),
        Metric.VALID_JSON.value: _mean([float(valid_json(given)) for given, _ in answers]),
    }


def token_f1(given: str, expected: str) -> float:
    """Harmonic mean of precision and recall over words (Rajpurkar et al., "SQuAD", 2016, section 6.1).

    Case, punctuation and articles do not count; where either side is empty, 1 when both are.
    """
    had, wanted = _words(given), _words(expected)
    if not had or not wanted:
        return float(had == wanted)
    shared = sum((Counter(had) & Counter(wanted)).values())
    return 2 * shared / (len(had) + len(wanted))


def valid_json(given: str) -> bool:
    """Whether an answer is a JSON document; a bare word or number, which anything may be, is none."""
    try:
        return isinstance(json.loads(given), dict | list)
    except (ValueError, RecursionError):
        return False


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
