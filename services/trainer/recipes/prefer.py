"""The recipe `prefer`: of two ways to answer, more of the one that people want."""

from collections.abc import Sequence

from services.trainer.data.rows import Format
from services.trainer.recipes.recipe import Decided, Facts, Recipe, Shape
from services.trainer.recipes.sizing import compared, passes, remarks, sizes
from services.trainer.settings import Metric, Objective

GENTLE = "gentle"
STANDARD = "standard"
STRONG = "strong"
# How strongly answers are held near the model's own; 0.1 is DPO's and KTO's published default.
_BETAS = {GENTLE: 0.3, STANDARD: 0.1, STRONG: 0.03}
_MOST_PASSES = 3


def _decide(facts: Facts, choice: str) -> Sequence[Decided]:
    paired = facts.format is Format.PREFERENCE
    objective = Objective.DPO if paired else Objective.KTO
    why = "rows hold a better and a worse answer to the same prompt" if paired else "rows hold one answer, good or bad"
    return [
        Decided("objective", objective, why),
        Decided("beta", _BETAS[choice], f"{choice}: the smaller, the further answers may move from the model's own"),
        Decided("rank", 16, "shifting between answers that the model can give already needs no more"),
        passes(facts, most=_MOST_PASSES),
        *sizes(facts),
        *_compared(facts, paired=paired),
    ]


def _compared(facts: Facts, *, paired: bool) -> Sequence[Decided]:
    if paired:
        return compared(facts, Metric.PREFERENCE_ACCURACY, "whether held-out pairs are preferred the right way round")
    return compared(facts, Metric.LOSS, "rows judged one by one have no other answer that they could be preferred to")


def _remarks(facts: Facts, choice: str) -> Sequence[str]:
    said = remarks(facts)
    said.append(
        "The learning rate is a tenth of that of supervised training, as published recipes of DPO have it: preferences move "
        "a model that answers already."
    )
    if facts.format is Format.UNPAIRED_PREFERENCE:
        said.append(
            "Where good answers are many more than bad ones, or the other way round, set settings.preference.desirable_weight "
            "and undesirable_weight so that weight times number is about equal."
        )
    if choice == STRONG:
        said.append("Strong may unlearn what nobody asked about: compare the version with its base on other questions.")
    return said


PREFER = Recipe(
    name="prefer",
    title="Prefer the better of two answers",
    description=(
        "Use it when people can say which answer is better more easily than they can write it: tone, length, caution, what "
        "to refuse. The model must give such answers already, at least sometimes: train it first (rewrite) and prefer from "
        "there. Five hundred pairs are a beginning. Do not use it to teach new facts or a form that the base has never "
        "seen, or where one right answer exists (classify, extract)."
    ),
    dataset='Rows of "prompt", "chosen" and "rejected"; or of "prompt", "completion" and "label", true for a good answer.',
    example_row={"prompt": "Where is my parcel?", "chosen": "It leaves today.", "rejected": "I cannot know that."},
    shapes=(
        Shape(Format.PREFERENCE, ("chosen", "rejected")),
        Shape(Format.UNPAIRED_PREFERENCE, ("prompt", "completion", "label")),
    ),
    choices={
        GENTLE: "Beta 0.3: stays near the model that training starts from.",
        STANDARD: "Beta 0.1, the published default.",
        STRONG: "Beta 0.03: moves far, for preferences that are clear and many.",
    },
    default_choice=STANDARD,
    decide=_decide,
    remarks=_remarks,
)
