"""From a record to a conversation: what a recipe makes of rows that have fields of their own.

Invariant: a conversation depends on the dataset's records, the recipe, its choice and the seed alone: not on the order
in which records are rendered, nor on the process or thread that does it.
"""

import json
import string
from collections.abc import Iterable, Mapping
from typing import Protocol

from services.trainer.data.rows import Labelled, Malformed, Row, Turn
from services.trainer.recipes.answer_from_context import ANSWER_FROM_CONTEXT, REFUSED_RATIOS
from services.trainer.recipes.classify import AS_WRITTEN, CLASSIFY, LETTERS, MOST_LETTERS
from services.trainer.recipes.extract import EXTRACT, LENIENT, STRICT
from services.trainer.recipes.filling import misnamed
from services.trainer.recipes.raft import Sources
from services.trainer.recipes.recipe import unmarked
from services.trainer.recipes.rewrite import REWRITE


class Renderer(Protocol):
    """Makes conversations of records."""

    def render(self, record: Labelled) -> Row:
        """Return the record as a conversation.  Raises Malformed for a record that lacks what the recipe needs."""


def natural(fields: Iterable[str]) -> str:
    """Return the mark of the recipe that records with these fields are plainly meant for; empty for none."""
    found = set(fields)
    if {"question", "context", "answer"} <= found:
        return f"{ANSWER_FROM_CONTEXT.name}:{ANSWER_FROM_CONTEXT.default_choice}"
    if {"text", "label"} <= found:
        return f"{CLASSIFY.name}:{AS_WRITTEN}"
    if {"text", "output"} <= found:
        return f"{EXTRACT.name}:{LENIENT}"
    return ""


def renderer(marked: str, records: Iterable[Labelled], seed: int) -> Renderer:
    """Return the renderer of a recipe and its choice for a dataset, whose records are gone through once.

    `marked` is a job's mark of both.  Raises ValueError for a mark that means none, for a recipe that makes nothing of
    records, and for labels that have no letters, with a sentence that says what to do.
    """
    if problem := misnamed(marked):
        raise ValueError(problem)
    name, choice = unmarked(marked)
    if name == ANSWER_FROM_CONTEXT.name:
        return Grounded(Sources.of(records, seed), REFUSED_RATIOS[choice or ANSWER_FROM_CONTEXT.default_choice])
    if name == CLASSIFY.name:
        return Lettered(letters(records)) if choice == LETTERS else Named()
    if name == EXTRACT.name:
        return Structured(sort_keys=(choice or EXTRACT.default_choice) == STRICT)
    if name == REWRITE.name:
        return Restyled()
    takers = ", ".join((CLASSIFY.name, EXTRACT.name, REWRITE.name, ANSWER_FROM_CONTEXT.name))
    raise ValueError(f"records become conversations by one of the recipes {takers}, not by {name or 'none'}")


def letters(records: Iterable[Labelled]) -> dict[str, str]:
    """Return a letter for each label, in the labels' order.  Raises ValueError when there are too many."""
    labels: set[str] = set()
    for record in records:
        labels.add(_text(record, "label"))
        if len(labels) > MOST_LETTERS:
            raise ValueError(
                f"there are more than {MOST_LETTERS} labels, and no letters for them: choose {AS_WRITTEN} instead"
            )
    return dict(zip(sorted(labels), string.ascii_uppercase, strict=False))


class Named:
    """Labels as they are written."""

    def render(self, record: Labelled) -> Row:
        """As Renderer.render."""
        return _conversation(
            record, "Answer with the label of the text.", _text(record, "text"), _text(record, "label")
        )


class Lettered:
    """Labels as letters, which the prompt lists."""

    def __init__(self, letters: Mapping[str, str]) -> None:
        self._letters = letters
        listed = "\n".join(f"{letter}: {label}" for label, letter in letters.items())
        self._system = f"Answer with the letter of the text's label.\n{listed}"

    def render(self, record: Labelled) -> Row:
        """As Renderer.render."""
        label = _text(record, "label")
        if label not in self._letters:
            # Of a dataset that is evaluated on: letters are those of the rows that are trained on.
            raise Malformed(
                "label", f"no row that is trained on has the label {label[:40]}; drop the row, or train on it"
            )
        return _conversation(record, self._system, _text(record, "text"), self._letters[label])


class Structured:
    """An object as JSON; `sort_keys`: in one spelling only."""

    def __init__(self, *, sort_keys: bool) -> None:
        self._sort_keys = sort_keys

    def render(self, record: Labelled) -> Row:
        """As Renderer.render."""
        output = _field(record, "output")
        if isinstance(output, str):
            try:
                output = json.loads(output)
            except ValueError:
                raise Malformed(
                    "output", "the output is no JSON; write an object, or choose the recipe rewrite"
                ) from None
        answer = json.dumps(output, ensure_ascii=False, sort_keys=self._sort_keys)
        return _conversation(record, "Answer with a JSON object and nothing else.", _text(record, "text"), answer)


class Restyled:
    """A text as the house writes it."""

    def render(self, record: Labelled) -> Row:
        """As Renderer.render."""
        return _conversation(record, "", _text(record, "text"), _text(record, "output"))


class Grounded:
    """A question over numbered sources; `refused_ratio` is the share of rows whose sources do not hold the answer."""

    def __init__(self, sources: Sources, refused_ratio: float) -> None:
        self._sources = sources
        self._refused_ratio = refused_ratio

    def render(self, record: Labelled) -> Row:
        """As Renderer.render."""
        question, answer = _text(record, "question"), _text(record, "answer")
        asked = self._sources.asked(question, _field(record, "context"), answer, self._refused_ratio)
        return _conversation(record, asked.system, asked.user, asked.answer)


def _conversation(record: Labelled, system: str, user: str, answer: str) -> Row:
    opening = (Turn("system", system),) if system else ()
    return Row(record.line, (*opening, Turn("user", user), Turn("assistant", answer)))


def _field(record: Labelled, name: str) -> object:
    if name not in record.fields:
        raise Malformed(name, f'the row has no "{name}", which the recipe needs; add it, or drop the row')
    return record.fields[name]


def _text(record: Labelled, name: str) -> str:
    value = _field(record, name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise Malformed(name, f'a text is needed as "{name}"; write it, or drop the row')
    return str(value).strip() if name == "label" else str(value)
