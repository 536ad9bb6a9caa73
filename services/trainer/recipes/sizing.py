"""Settings that follow from a dataset's size, the same in every recipe.

Sources, where a reason names none: "LoRA Without Regret" (Thinking Machines, 2025) for steps and batches, and for the
rest what teams report who fine-tune for one task.
"""

import math
from collections.abc import Sequence

from services.trainer.recipes.recipe import Decided, Facts
from services.trainer.settings import Keep, Metric, Settings

_PLENTY_OF_STEPS = 300
_MANY_ROWS = 20_000
_HELD_OUT_RATIO = 0.1
_MOST_HELD_OUT = 500
# Below it a held-out split says more about its own rows than about the model.
_FEWEST_TO_HOLD_OUT = 30
_ANSWERED_ROWS = 200
_LONGEST_ROW_TOKENS = 8192
_LONG_ROW_TOKENS = 2048
_ROUND_TOKENS = 64


def batch_rows(facts: Facts) -> int:
    """Rows of a step."""
    return Settings().batch_rows if facts.rows >= 100 else 4


def passes(facts: Facts, *, most: int) -> Decided:
    """How often the rows are gone through: until some hundred steps are done, at most `most` times."""
    steps = max(1, -(-facts.rows // batch_rows(facts)))
    epochs = min(most, max(1, math.ceil(_PLENTY_OF_STEPS / steps)))
    if facts.rows < _MANY_ROWS:
        epochs = max(epochs, min(most, 2))
    reason = f"{facts.rows} rows make {steps} steps a pass; a run wants some hundred steps, and no row too often"
    return Decided("epochs", epochs, reason)


def held_out_rows(facts: Facts) -> int:
    """Rows that are held out."""
    ratio = held_out_ratio(facts)
    return max(1, round(facts.rows * ratio)) if ratio else 0


def held_out_ratio(facts: Facts) -> float:
    """Share of rows that is held out; 0 of a dataset that has none to spare."""
    if facts.rows < _FEWEST_TO_HOLD_OUT:
        return 0.0
    return round(min(_HELD_OUT_RATIO, max(_MOST_HELD_OUT / facts.rows, 0.001)), 3)


def sizes(facts: Facts) -> list[Decided]:
    """Batch, held-out rows, early stopping and lengths."""
    decided = []
    if batch_rows(facts) != Settings().batch_rows:
        decided.append(Decided("batch_rows", batch_rows(facts), "of few rows small steps learn more"))
    return [*decided, *_evaluation(facts), *_lengths(facts)]


def compared(facts: Facts, metric: Metric, why: str) -> list[Decided]:
    """By what evaluations are compared; nothing where no rows are held out."""
    return [Decided("metric", metric, why)] if held_out_rows(facts) else []


def answered(facts: Facts, tokens: int, why: str) -> list[Decided]:
    """How held-out rows are answered at an evaluation; nothing where none are held out."""
    held_out = held_out_rows(facts)
    if not held_out:
        return []
    rows = min(_ANSWERED_ROWS, held_out)
    return [
        Decided("generation_rows", rows, f"{rows} held-out rows are answered at each evaluation, to compare answers"),
        Decided("generation_tokens", tokens, why),
    ]


def remarks(facts: Facts) -> list[str]:
    """What people should know of a dataset of this size."""
    said = []
    if not held_out_rows(facts):
        said.append(
            f"{facts.rows} rows are too few to hold some out: nothing is evaluated, and the last weights become the "
            "version. Ask it questions of your own before you trust it, or add rows."
        )
    elif facts.rows < 200:
        said.append(f"{facts.rows} rows are few: more of them help more than any setting.")
    if facts.max_row_tokens > _LONGEST_ROW_TOKENS:
        said.append(
            f"The longest row has {facts.max_row_tokens} tokens and is cut to {_LONGEST_ROW_TOKENS}; the dataset's report "
            "says how many rows lose their end."
        )
    return said


def _evaluation(facts: Facts) -> Sequence[Decided]:
    ratio = held_out_ratio(facts)
    if not ratio:
        return [Decided("keep", Keep.LAST, "nothing is held out, so no evaluation says which weights are best")]
    return [
        Decided("validation_ratio", ratio, f"about {held_out_rows(facts)} rows say when it begins to learn by heart"),
        Decided("early_stopping_patience", 3, "three evaluations without improvement: more training will not help"),
        Decided("keep", Keep.BEST, "the weights of the best evaluation, not of the last step"),
    ]


def _lengths(facts: Facts) -> Sequence[Decided]:
    longest = min(_LONGEST_ROW_TOKENS, _ROUND_TOKENS * -(-facts.max_row_tokens // _ROUND_TOKENS))
    if longest <= Settings().max_row_tokens:
        return []
    decided = [Decided("max_row_tokens", longest, f"the longest row has {facts.max_row_tokens} tokens")]
    if longest > _LONG_ROW_TOKENS:
        decided.append(Decided("gradient_checkpointing", True, "rows this long take more memory than time is worth"))
    return decided
