"""The recipes by name, and what one makes of a dataset.

Invariant: what a recipe fills in is a request that a job can be created from as it is, or a refusal that names the
field that the dataset lacks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.errors import Failure, Reason
from services.trainer.data.rows import Format
from services.trainer.recipes.answer_from_context import ANSWER_FROM_CONTEXT
from services.trainer.recipes.classify import CLASSIFY
from services.trainer.recipes.extract import EXTRACT
from services.trainer.recipes.prefer import PREFER
from services.trainer.recipes.recipe import Decided, Facts, Recipe, mark, unmarked
from services.trainer.recipes.rewrite import REWRITE

RECIPES = {recipe.name: recipe for recipe in (CLASSIFY, EXTRACT, REWRITE, ANSWER_FROM_CONTEXT, PREFER)}

_LONGEST_NAME = 63
# What the rows of a format have; of records it is what they say.
_FIELDS = {
    Format.CHAT: ("messages",),
    Format.PROMPT_COMPLETION: ("prompt", "completion"),
    Format.TEXT: ("text",),
    Format.PREFERENCE: ("prompt", "chosen", "rejected"),
    Format.UNPAIRED_PREFERENCE: ("prompt", "completion", "label"),
}


@dataclass(frozen=True, slots=True)
class Filled:
    """A request: its dataset, the model that takes the version, the mark of recipe and choice, settings with reasons."""

    recipe: str
    choice: str
    dataset: str
    model: str
    decided: tuple[Decided, ...]
    notes: tuple[str, ...]

    @property
    def mark(self) -> str:
        """What the job keeps of recipe and choice."""
        return mark(self.recipe, self.choice)


def find(name: str) -> Recipe:
    """Return a recipe.  Raises RECIPE_NOT_FOUND."""
    recipe = RECIPES.get(name)
    if recipe is None:
        raise Failure(Reason.RECIPE_NOT_FOUND, name=name, known=", ".join(RECIPES))
    return recipe


def misnamed(marked: str) -> str:
    """What is wrong with a job's mark of recipe and choice, with those that there are; empty for one of them, or none."""
    name, choice = unmarked(marked)
    if not name and not choice:
        return ""
    if name not in RECIPES:
        return f"no recipe is named {name or marked}; there are {', '.join(RECIPES)}"
    return _no_choice(RECIPES[name], choice) if choice else ""


def names_answers(marked: str) -> bool:
    """Whether the choice in a mark has names of its own for answers, so that there may be only so many."""
    name, choice = unmarked(marked)
    return name in RECIPES and choice in RECIPES[name].most_answers


def require_fit(marked: str, facts: Facts) -> None:
    """Raise RECIPE_UNFIT for a dataset that the recipe and the choice in a mark, both of which there are, do not fit."""
    name, choice = unmarked(marked)
    recipe = RECIPES[name]
    if why := recipe.misfit(facts, choice or recipe.default_choice):
        raise Failure(Reason.RECIPE_UNFIT, field="dataset", name=name, dataset=facts.dataset, problem=why)


def fields_of(kind: Format) -> frozenset[str]:
    """The fields that rows of a format have; none for records, whose fields differ."""
    return frozenset(_FIELDS.get(kind, ()))


def fill(name: str, facts: Facts, choice: str = "", model: str = "") -> Filled:
    """Fill in a request.  ``choice`` and ``model`` empty take the recipe's default, and a name after dataset and recipe.

    Raises RECIPE_NOT_FOUND, FIELD_INVALID for a choice that is none, RECIPE_UNFIT.
    """
    recipe = find(name)
    chosen = _choice(recipe, choice)
    require_fit(mark(name, chosen), facts)
    return Filled(
        name,
        chosen,
        facts.dataset,
        model or _named_after(facts.dataset, name),
        tuple(recipe.decide(facts, chosen)),
        tuple(recipe.remarks(facts, chosen)),
    )


def example(recipe: Recipe) -> Sequence[Decided]:
    """Return what the recipe decides for a thousand short rows under its default choice."""
    shape = recipe.shapes[0]
    facts = Facts("example", shape.format, frozenset(shape.fields), 1000, 100_000, 200)
    return recipe.decide(facts, recipe.default_choice)


def lineage(marked: str) -> dict[str, object]:
    """Return what a version keeps of the recipe that its settings came from, fit for JSON; nothing for none.

    ``prompt_format`` is there where the version was trained on prompts of a named shape.
    """
    name, choice = unmarked(marked)
    if not name:
        return {}
    recipe = RECIPES.get(name)
    shape = {"prompt_format": recipe.prompt_format} if recipe is not None and recipe.prompt_format else {}
    return {"recipe": name, **({"choice": choice} if choice else {}), **shape}


def _choice(recipe: Recipe, choice: str) -> str:
    if not choice:
        return recipe.default_choice
    if problem := _no_choice(recipe, choice):
        raise Failure(Reason.FIELD_INVALID, field="choice", problem=problem)
    return choice


def _no_choice(recipe: Recipe, choice: str) -> str:
    """Say which choices the recipe has where this is none of them; else nothing."""
    if choice in recipe.choices:
        return ""
    return f"{recipe.name} has the choices {', '.join(recipe.choices)}, not {choice}"


def _named_after(dataset: str, recipe: str) -> str:
    """A model's name: what it was trained on and for, at most as long as names may be."""
    kept = dataset[: _LONGEST_NAME - len(recipe) - 1].rstrip(".-")
    return f"{kept}-{recipe}"
