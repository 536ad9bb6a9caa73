"""The recipe `rewrite`: a text in the style of the house."""

import math
from collections.abc import Sequence
from dataclasses import replace

from services.trainer.data.rows import Format
from services.trainer.recipes.recipe import Decided, Facts, Recipe, Shape
from services.trainer.recipes.sizing import answered, compared, passes, remarks, sizes
from services.trainer.settings import Metric, Supervision

GENTLE = "gentle"
STANDARD = "standard"
STRONG = "strong"
_FRAME_TOKENS = 64
_UNKNOWN_ANSWER_TOKENS = 256
_MOST_ANSWER_TOKENS = 1024
# Rank and most passes: how much of the style fits in, and how often each row is shown.
_STRENGTHS = {GENTLE: (8, 2), STANDARD: (16, 3), STRONG: (32, 6)}


def _decide(facts: Facts, choice: str) -> Sequence[Decided]:
    rank, most = _STRENGTHS[choice]
    known = facts.answer_tokens
    tokens = min(_MOST_ANSWER_TOKENS, 16 + math.ceil(2 * known)) if known else _UNKNOWN_ANSWER_TOKENS
    if facts.format is Format.RECORDS:
        facts = replace(facts, max_row_tokens=2 * facts.max_row_tokens + _FRAME_TOKENS)
    return [
        Decided("rank", rank, f"{choice}: how much of the style the adapter can hold"),
        Decided("alpha", 2.0 * rank, "twice the rank, so that the usual learning rate holds"),
        Decided("supervision", Supervision.LAST_ANSWER, "the text in the house's style is learned, never the original"),
        replace(passes(facts, most=most), reason=f"{choice}: each row is shown at most {most} times"),
        *sizes(facts),
        *compared(facts, Metric.LOSS, "a style has many right answers: the loss on held-out rows says how near it is"),
        *answered(facts, tokens, "room for an answer twice as long as most"),
    ]


def _remarks(facts: Facts, choice: str) -> Sequence[str]:
    said = remarks(facts)
    if choice == STRONG:
        said.append("Strong repeats rows often: look whether answers begin to copy whole sentences of the dataset.")
    return said


REWRITE = Recipe(
    name="rewrite",
    title="Rewrite in the style of the house",
    description=(
        "Use it when answers should sound like you: letters, product texts, support answers, minutes, in your words, form "
        "and length. A hundred pairs by one careful writer do more than thousands by many. Do not use it to teach facts "
        "(answer-from-context, or retrieval without training), when two wordings are to be weighed against each other "
        "(prefer), or when a sentence in the prompt already says the style well enough."
    ),
    dataset='Rows of "prompt", the original or the task, and "completion" as you would write it; or messages; or "text" and "output".',
    example_row={
        "prompt": "Tell the guest that the pool is closed.",
        "completion": "Our pool is resting until Friday.",
    },
    shapes=(
        Shape(Format.PROMPT_COMPLETION, ("prompt", "completion")),
        Shape(Format.CHAT, ("messages",)),
        Shape(Format.RECORDS, ("text", "output")),
    ),
    choices={
        GENTLE: "Leans towards the style and keeps most of the model's own ways; for few rows, or a style near to plain.",
        STANDARD: "Takes the style on; right for most.",
        STRONG: "Takes it on closely, and more of the rows' wording with it; for some thousand consistent rows.",
    },
    default_choice=STANDARD,
    decide=_decide,
    remarks=_remarks,
)
