"""Score the demo's answers by code: whether the form is right, the fact there, and the citation holds it.

Every road is scored by these lines and no others, so that a base model which knows the
fact but not the form gets the fact's point and not the form's.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from gateway.asking.prompt import Quotation

FOLDER = Path(__file__).parent
QUEUES = frozenset({"hull-shed", "paper-desk", "bell-room", "shelf-nine"})
_FIELDS = {"queue", "answer", "source"}
_MARKER = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the demo.  `fact` is the handbook's sentence, `expected` the words of it that answer."""

    question: str
    queue: str
    page: str
    fact: str
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """What one answer got.  `queue` is shown and not part of `complete`: it is a judgement, not a fact."""

    form: bool
    fact: bool
    citation: bool
    queue: bool

    @property
    def complete(self) -> bool:
        """Whether form, fact and citation are all right."""
        return self.form and self.fact and self.citation


def questions(path: Path = FOLDER / "questions.json") -> list[Question]:
    """Read the questions in the order in which they are asked."""
    entries = json.loads(path.read_text())
    return [Question(**{**entry, "expected": tuple(entry["expected"])}) for entry in entries]


def filled_form(text: str) -> dict[str, str] | None:
    """Return the three fields when `text` is the house's form and nothing else, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or set(value) != _FIELDS:
        return None
    if not all(isinstance(entry, str) for entry in value.values()):
        return None
    right = value["queue"] in QUEUES and bool(re.fullmatch(r"\[\d+\]|none", value["source"]))
    return value if right else None


def mentions(text: str, expected: Sequence[str]) -> bool:
    """Whether one of the expected wordings stands in `text` as whole words, whatever the case."""
    return any(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) for words in expected)


def score(question: Question, answer: str, sources: Sequence[Quotation]) -> Score:
    """Score `answer`, given over `sources` in the order of their markers (empty without retrieval)."""
    form = filled_form(answer.strip())
    markers = [int(number) for number in _MARKER.findall(answer)]
    resolve = bool(markers) and all(1 <= number <= len(sources) for number in markers)
    held = resolve and any(mentions(sources[number - 1].text, question.expected) for number in markers)
    return Score(
        form=form is not None,
        fact=mentions(form["answer"] if form else answer, question.expected),
        citation=held,
        queue=form is not None and form["queue"] == question.queue,
    )


def table(scores: dict[str, list[Score]]) -> str:
    """Return the demo's table: a line for each road, how many answers were right in each respect."""
    columns = [field.name for field in fields(Score)]
    width = max(len(road) for road in scores)
    lines = [f"{'road':<{width}}  " + "  ".join(f"{name:>8}" for name in ("form", "fact", "citation", "all", "queue"))]
    for road, given in scores.items():
        counts = {name: sum(getattr(entry, name) for entry in given) for name in columns}
        counts["all"] = sum(entry.complete for entry in given)
        cells = "  ".join(f"{counts[name]:>5}/{len(given)}" for name in ("form", "fact", "citation", "all", "queue"))
        lines.append(f"{road:<{width}}  {cells}")
    return "\n".join(lines)
