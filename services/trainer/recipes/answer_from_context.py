"""The recipe `answer-from-context`: answer from sources that stand in the prompt, and say so when they do not hold it.

RAFT (Zhang et al. 2024, arXiv 2403.10131): train with the source that holds the answer among others that do not, and
leave it out in some rows.  The paper's tables show why: training on bare questions and retrieving afterwards can be
worse than either alone.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.chassis.sources_prompt import FORMAT, NOT_FOUND
from services.trainer.data.rows import Format
from services.trainer.recipes.recipe import Decided, Facts, Recipe, Shape
from services.trainer.recipes.sizing import answered, compared, passes, remarks, sizes
from services.trainer.settings import Metric, Supervision

CAUTIOUS = "cautious"
BALANCED = "balanced"
BOLD = "bold"
# Share of rows from whose sources the answer is left out.
REFUSED_RATIOS = {CAUTIOUS: 0.4, BALANCED: 0.2, BOLD: 0.05}
# Sources beside the one that holds the answer, least and most; the paper trains with four.
FEWEST_DISTRACTORS, MOST_DISTRACTORS = 2, 4
# Instruction, marks of sources and chat template.
_FRAME_TOKENS = 128
_ANSWER_TOKENS = 128


def _decide(facts: Facts, choice: str) -> Sequence[Decided]:
    mean = facts.tokens / max(1, facts.rows)
    longest = round(2 * facts.max_row_tokens + MOST_DISTRACTORS * mean) + _FRAME_TOKENS
    return [
        Decided("rank", 16, "it learns to look, cite and decline, not the sources"),
        Decided("supervision", Supervision.LAST_ANSWER, "the answer alone is learned: sources are read, never recited"),
        passes(facts, most=3),
        *sizes(replace(facts, max_row_tokens=longest)),
        *compared(facts, Metric.TOKEN_F1, "answers are a few words that may be worded otherwise"),
        *answered(facts, _ANSWER_TOKENS, "an answer with its citation ends well before"),
    ]


def _remarks(facts: Facts, choice: str) -> Sequence[str]:
    return [
        *remarks(facts),
        f"Each prompt holds the row's own context among {FEWEST_DISTRACTORS} to {MOST_DISTRACTORS} of other rows, drawn by "
        f'the seed; in {REFUSED_RATIOS[choice]:.0%} of rows it is left out and the answer is "{NOT_FOUND}".',
        f"Prompts have the shape {FORMAT}, in which the gateway asks with sources; the version's lineage names it.",
        "Serve it with retrieval: without sources in the prompt it has learned to answer nothing.",
    ]


ANSWER_FROM_CONTEXT = Recipe(
    name="answer-from-context",
    title="Answer from sources, and cite them",
    description=(
        "Use it when answers stand in your documents and the model must find them among what retrieval brings, cite them, "
        "and say when they are not there. Some hundred questions over at least a few dozen different passages are a "
        "beginning. Do not use it when there is no retrieval at serving time, when the form alone is wrong (rewrite, "
        "extract), or when retrieval with an untrained model already answers well: then nothing is to be gained."
    ),
    dataset='Rows of "question", "context" (the passage that holds the answer, or a list of passages) and "answer".',
    example_row={
        "question": "When does the ferry leave?",
        "context": "The ferry to Osier Island leaves at 7:40, on Sundays at 9:00.",
        "answer": "At 7:40, on Sundays at 9:00.",
    },
    shapes=(Shape(Format.RECORDS, ("question", "context", "answer")),),
    choices={
        CAUTIOUS: "In four of ten rows the answer is left out: it would rather decline than guess.",
        BALANCED: "In two of ten rows, as in the paper's best runs.",
        BOLD: "In one of twenty: it nearly always answers; for sources that nearly always hold the answer.",
    },
    default_choice=BALANCED,
    decide=_decide,
    remarks=_remarks,
    prompt_format=FORMAT,
)
