"""Recipes through the running service."""

import json

from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller


def recipes(caller: Caller) -> dict[str, training_pb2.Recipe]:
    """All recipes by id."""
    answer = caller.training.ListRecipes(
        training_pb2.ListRecipesRequest(), metadata=caller.metadata, wait_for_ready=True
    )
    return {recipe.recipe: recipe for recipe in answer.recipes}


def test_recipes_are_listed_with_what_one_needs_to_choose_and_to_write_rows(caller: Caller) -> None:
    listed = recipes(caller)
    assert set(listed) == {"classify", "extract", "rewrite", "answer-from-context", "prefer"}
    for recipe in listed.values():
        assert recipe.default_choice in recipe.choices
        assert len(recipe.choices) >= 2
        assert json.loads(recipe.example_row)
        assert "Do not use it" in recipe.description
    assert listed["prefer"].settings.objective == training_pb2.OBJECTIVE_DPO
