"""The recipe `extract`: the same fields out of every text, as JSON."""

import math
from collections.abc import Sequence
from dataclasses import replace

from services.trainer.data.rows import Format
from services.trainer.recipes.recipe import Decided, Facts, Recipe, Shape
from services.trainer.recipes.sizing import answered, compared, passes, remarks, sizes
from services.trainer.settings import Metric, Supervision

STRICT = "strict"
LENIENT = "lenient"
_FRAME_TOKENS = 64
_UNKNOWN_ANSWER_TOKENS = 256
_MOST_ANSWER_TOKENS = 1024


def _decide(facts: Facts, choice: str) -> Sequence[Decided]:
    known = facts.answer_tokens
    tokens = min(_MOST_ANSWER_TOKENS, 16 + math.ceil(3 * known)) if known else _UNKNOWN_ANSWER_TOKENS
    if facts.format is Format.RECORDS:
        # A record's longest text was counted, not text and output together.
        facts = replace(facts, max_row_tokens=2 * facts.max_row_tokens + _FRAME_TOKENS)
    strict = choice == STRICT
    metric = Metric.EXACT_MATCH if strict else Metric.VALID_JSON
    why = (
        "an object counts when every field and value is right" if strict else "an answer counts when it parses as JSON"
    )
    return [
        Decided("rank", 16, "fields and the form of values are learned together"),
        Decided("supervision", Supervision.LAST_ANSWER, "the object alone is learned"),
        passes(facts, most=5),
        *sizes(facts),
        *compared(facts, metric, why),
        *answered(facts, tokens, "room for an object three times as long as most, which must not be cut in the middle"),
    ]


def _remarks(facts: Facts, choice: str) -> Sequence[str]:
    said = remarks(facts)
    if facts.format is Format.RECORDS and choice == STRICT:
        said.append("Keys are written in alphabetical order, so that one object has one spelling.")
    elif facts.format is not Format.RECORDS:
        said.append("Completions are trained on as they stand: see that each is JSON, and that keys keep their order.")
    said.append("Ask for a JSON schema when you serve it: then what the model writes cannot break the form.")
    return said


_SHAPES = (
    Shape(Format.RECORDS, ("text", "output")),
    Shape(Format.PROMPT_COMPLETION, ("prompt", "completion")),
    Shape(Format.CHAT, ("messages",)),
)

EXTRACT = Recipe(
    name="extract",
    title="Read fields out of texts, as JSON",
    description=(
        "Use it when a program reads the answer: order numbers, dates, slots of a command, lines of an invoice, always the "
        "same fields. Two hundred rows that show every field, also empty, are a beginning. Do not use it when one word "
        "answers (classify), when what is wanted does not stand in the text (answer-from-context), or when the fields "
        "differ with each request: then a schema at serving time does more than training."
    ),
    dataset='Rows of "text" and "output", an object; or of "prompt" and "completion", or messages, with JSON as the answer.',
    example_row={"text": "Book a table for two in Basel at noon.", "output": {"city": "Basel", "people": 2}},
    shapes=_SHAPES,
    choices={
        STRICT: "The best weights are those with the most objects that are right in every field.",
        LENIENT: (
            "The best weights are those with the most answers that are JSON; for long objects of which hardly any is right "
            "in full, where exact match would tell no weights apart."
        ),
    },
    default_choice=STRICT,
    decide=_decide,
    remarks=_remarks,
)
