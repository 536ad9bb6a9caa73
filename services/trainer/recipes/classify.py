"""The recipe `classify`: one label of a fixed set for a text."""

import math
from collections.abc import Sequence
from dataclasses import replace

from services.trainer.data.rows import Format
from services.trainer.recipes.recipe import Decided, Facts, Recipe, Shape
from services.trainer.recipes.sizing import answered, compared, held_out_rows, passes, remarks, sizes
from services.trainer.settings import Metric, Supervision

AS_WRITTEN = "as-written"
LETTERS = "letters"
# The alphabet: a letter is one token in every tokenizer that matters.
MOST_LETTERS = 26
# Instruction and chat template around a record's text.
_FRAME_TOKENS = 64
_LONG_ANSWER_TOKENS = 24
_FEW_ROWS_A_LABEL = 10
_MOST_LABEL_TOKENS = 128


def _decide(facts: Facts, choice: str) -> Sequence[Decided]:
    if facts.format is Format.RECORDS:
        facts = replace(facts, max_row_tokens=facts.max_row_tokens + _FRAME_TOKENS)
    tokens = 4 if choice == LETTERS else min(_MOST_LABEL_TOKENS, max(16, 8 + math.ceil(2 * facts.answer_tokens)))
    return [
        Decided(
            "rank", 8, "telling a fixed set of labels apart needs little capacity, and a small adapter serves cheaply"
        ),
        Decided("alpha", 16.0, "twice the rank, so that the usual learning rate holds"),
        Decided("supervision", Supervision.LAST_ANSWER, "the label alone is learned"),
        passes(facts, most=5),
        *sizes(facts),
        *compared(facts, Metric.EXACT_MATCH, "answers are short: a label is right or wrong, and the loss hides which"),
        *answered(facts, tokens, "a label ends well before"),
    ]


def _remarks(facts: Facts, choice: str) -> Sequence[str]:
    said = remarks(facts)
    if facts.answer_tokens > _LONG_ANSWER_TOKENS:
        said.append(
            f"Answers have {facts.answer_tokens:.0f} tokens on average, which is long for a label: if they are texts, take "
            "the recipe rewrite or extract."
        )
    elif facts.answer_tokens and held_out_rows(facts):
        said.append("Completions are short: members and checkpoints are compared by exact match on held-out rows.")
    if facts.distinct_answers:
        shown = f"trivium data preview {facts.dataset} --recipe classify:{choice}"
        said.append(
            f"There are {facts.distinct_answers} labels; ask the version as its rows ask, which {shown} shows with the "
            "instruction."
        )
        if facts.rows < _FEW_ROWS_A_LABEL * facts.distinct_answers:
            said.append(
                f"That is {facts.rows / facts.distinct_answers:.1f} rows a label; {_FEW_ROWS_A_LABEL} of each are what it "
                "takes to tell similar labels apart."
            )
    if choice == LETTERS:
        said.append(
            "Every prompt lists the labels with their letters, in alphabetical order: serve with the same list."
        )
    return said


CLASSIFY = Recipe(
    name="classify",
    title="Sort texts into fixed labels",
    description=(
        "Use it when every text gets exactly one label of a set that is known and stays: intents, topics, queues, yes or "
        "no. Ten rows of each label are a beginning, a hundred are good. Do not use it when a text may have several "
        "labels, or the label comes with a reason (extract), when labels change every week (ask a model that is not "
        "trained, with the labels in the prompt), or for a number."
    ),
    dataset='Rows of "text" and "label"; or of "prompt" and "completion", or messages, whose answer is the label.',
    example_row={"text": "My card has not arrived yet.", "label": "card_arrival"},
    shapes=(
        Shape(Format.RECORDS, ("text", "label")),
        Shape(Format.PROMPT_COMPLETION, ("prompt", "completion"), (AS_WRITTEN,)),
        Shape(Format.CHAT, ("messages",), (AS_WRITTEN,)),
    ),
    choices={
        AS_WRITTEN: "The model answers with the label as it is written. Any number of labels; the prompt stays short.",
        LETTERS: (
            "Each label gets a letter and the prompt lists them. One token to answer with, so answers come sooner and long "
            f"labels are not favoured; at most {MOST_LETTERS} labels, and the list stands in every prompt."
        ),
    },
    default_choice=AS_WRITTEN,
    most_answers={LETTERS: MOST_LETTERS},
    decide=_decide,
    remarks=_remarks,
)
