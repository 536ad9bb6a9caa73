"""Recipes on the wire.  Part of `wire`."""

import json
from collections.abc import Iterable

from trivium.trainer.v1 import training_pb2

from services.trainer.data.dataset_rows import Dataset
from services.trainer.recipes.filling import Filled, example, fields_of
from services.trainer.recipes.recipe import Decided, Facts, Recipe
from services.trainer.wire_values import put


def recipe(value: Recipe) -> training_pb2.Recipe:
    """A recipe on the wire, with what it fills in for a thousand short rows."""
    return training_pb2.Recipe(
        recipe=value.name,
        title=value.title,
        description=value.description,
        settings=_settings(example(value)),
        dataset=value.dataset,
        choices=value.choices,
        default_choice=value.default_choice,
        example_row=json.dumps(value.example_row, ensure_ascii=False),
    )


def filled(value: Filled, dataset: str, distinct_answers: int = 0) -> training_pb2.FillRecipeResponse:
    """A request that CreateJob takes as it is, for the dataset by the name that was asked with, and the reasons."""
    return training_pb2.FillRecipeResponse(
        job=training_pb2.CreateJobRequest(
            model=value.model,
            dataset=dataset,
            settings=_settings(value.decided),
            recipe=value.mark,
        ),
        notes=[*(f"{entry.name} {_said(entry.value)}: {entry.reason}." for entry in value.decided), *value.notes],
        distinct_answers=distinct_answers,
    )


def facts(value: Dataset, fields: frozenset[str], distinct_answers: int) -> Facts:
    """A dataset as recipes see it; `fields` are those of its records, `distinct_answers` its labels."""
    return Facts(
        dataset=value.dataset,
        format=value.format,
        fields=fields or fields_of(value.format),
        rows=value.rows,
        tokens=value.tokens,
        max_row_tokens=value.max_row_tokens,
        supervised_tokens=value.supervised_tokens,
        distinct_answers=distinct_answers,
    )


def _settings(decided: Iterable[Decided]) -> training_pb2.TrainingSettings:
    message = training_pb2.TrainingSettings()
    for entry in decided:
        put(message, entry.name, entry.value)
    return message


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
