"""The rows of a dataset as a job trains on them: records are rendered by the job's recipe, all else is as it is.

Invariant: what is checked, shown, trained on and evaluated on is read here, by the same recipe, choice and seed.
"""

from collections.abc import Iterator
from typing import BinaryIO

from services.trainer.data import reading
from services.trainer.data.rows import AnyRow, Labelled, Malformed, Problem
from services.trainer.recipes.recipe import unmarked
from services.trainer.recipes.rendering import Renderer, natural, renderer
from services.trainer.recipes.rewrite import REWRITE


def read(file: BinaryIO, recipe: str = "", seed: int = 0, source: BinaryIO | None = None) -> Iterator[AnyRow | Problem]:
    """Yield each row, rendered where it is a record, or what is wrong with it.

    `recipe` is a job's mark of recipe and choice; without one that makes rows of records, the one that they are plainly
    meant for.  `source` is the dataset that is trained on where `file` is the one that is evaluated on: labels get their
    letters, and questions their distractors, from there.
    """
    first = next((row for row in reading.read(file) if not isinstance(row, Problem)), None)
    if not isinstance(first, Labelled):
        yield from reading.read(file)
        return
    try:
        made = _renderer(recipe, first, source or file, seed)
    except ValueError as error:
        yield Problem(1, "", str(error))
        return
    except Malformed as problem:
        yield problem.at(first.line)
        return
    for row in reading.read(file):
        try:
            yield made.render(row) if isinstance(row, Labelled) else row
        except Malformed as problem:
            yield problem.at(row.line)


def _renderer(recipe: str, first: Labelled, source: BinaryIO, seed: int) -> Renderer:
    records = (row for row in reading.read(source) if isinstance(row, Labelled))
    if not unmarked(recipe)[0]:
        rewritten = isinstance(first.fields.get("output"), str) and str(first.fields["output"]).lstrip()[:1] != "{"
        recipe = REWRITE.name if rewritten else natural(first.fields)
    return renderer(recipe, records, seed)
