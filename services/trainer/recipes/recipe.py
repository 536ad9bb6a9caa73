"""What a recipe is, and what it says of a dataset.

Invariant: a recipe decides by a dataset's description alone, and gives a reason for every setting that it decides; what
it says nothing of takes the default that `settings` explains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.trainer.data.rows import Format

# Between a recipe and its choice, in the mark that a job keeps of both.
_BETWEEN = ":"


@dataclass(frozen=True, slots=True)
class Facts:
    """A dataset as recipes see it.

    ``tokens`` and ``max_row_tokens`` (the longest row's) are counted under the base's chat template,
    ``supervised_tokens`` are those that the answers have, 0 for records, which become conversations only by a recipe.
    ``distinct_answers`` is 0 where nobody counted them.
    """

    dataset: str
    format: Format
    fields: frozenset[str]
    rows: int
    tokens: int
    max_row_tokens: int
    supervised_tokens: int = 0
    distinct_answers: int = 0

    @property
    def answer_tokens(self) -> float:
        """Tokens of an answer on average; 0 where not known."""
        return self.supervised_tokens / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Decided:
    """One setting, by its name in `Settings`, with a reason for people."""

    name: str
    value: object
    reason: str


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows that a recipe takes: their format, and the fields that one has.  ``choices``: empty for all of them."""

    format: Format
    fields: tuple[str, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named template.

    ``decide`` returns what this recipe settles for a dataset and a choice; ``remarks`` what people should know beside.
    ``prompt_format`` names the shape of the prompts that are trained on, where serving must know it.
    """

    name: str
    title: str
    description: str
    dataset: str
    example_row: Mapping[str, object]
    shapes: tuple[Shape, ...]
    choices: Mapping[str, str]
    default_choice: str
    decide: Callable[[Facts, str], Sequence[Decided]]
    remarks: Callable[[Facts, str], Sequence[str]] = field(default=lambda _facts, _choice: ())
    prompt_format: str = ""
    # By choice, how many distinct answers it has a name for.
    most_answers: Mapping[str, int] = field(default_factory=dict)

    def misfit(self, facts: Facts, choice: str) -> str | None:
        """Return why the dataset does not fit, naming the field that is missing, and what to do; None when it does."""
        shapes = [shape for shape in self.shapes if not shape.choices or choice in shape.choices]
        most = self.most_answers.get(choice, facts.distinct_answers)
        if facts.distinct_answers > most:
            others = ", ".join(other for other in self.choices if other not in self.most_answers)
            return f"it has {facts.distinct_answers} labels, and {choice} takes at most {most}; choose {others}"
        if any(shape.format is facts.format and set(shape.fields) <= facts.fields for shape in shapes):
            return None
        nearest = min(
            shapes,
            key=lambda shape: (
                shape.format is not facts.format,
                len(set(shape.fields) - facts.fields),
                -len(facts.fields & set(shape.fields)),
            ),
        )
        missing = [name for name in nearest.fields if name not in facts.fields]
        has = ", ".join(sorted(facts.fields)) or "none"
        needed = " or ".join(dict.fromkeys(_listed(shape.fields) for shape in shapes))
        lacks = f"its rows have no {_listed(missing)}" if missing else f"its rows are {facts.format.value}"
        return f"{lacks}; they have {has}. A row needs {needed}"


def mark(recipe: str, choice: str) -> str:
    """Return what a job keeps of both: `classify:letters`."""
    return f"{recipe}{_BETWEEN}{choice}"


def unmarked(marked: str) -> tuple[str, str]:
    """Return the recipe and the choice in a mark; the choice is empty when it names none."""
    recipe, _, choice = marked.partition(_BETWEEN)
    return recipe, choice


def _listed(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
