"""What recipes make of datasets."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protovalidate import Validator
from trivium.trainer.v1 import training_pb2

from services.chassis.errors import Failure, Reason
from services.trainer import wire_recipes
from services.trainer.data.converting import recognised, row_of
from services.trainer.data.records import Record
from services.trainer.data.rows import Format
from services.trainer.recipes.filling import RECIPES, Filled, fill, find, lineage
from services.trainer.recipes.recipe import Facts, Recipe
from services.trainer.settings import Metric, Objective, Settings

EVERY_CHOICE = [(recipe, choice) for recipe in RECIPES.values() for choice in recipe.choices]
VALIDATOR = Validator()
NAMES = [f"{recipe.name}-{choice}" for recipe, choice in EVERY_CHOICE]


def facts_for(recipe: Recipe, choice: str, rows: int = 500, longest: int = 300, answers: int = 5000) -> list[Facts]:
    """Datasets of every shape that the recipe takes with this choice."""
    shapes = [shape for shape in recipe.shapes if not shape.choices or choice in shape.choices]
    return [
        Facts("house", shape.format, frozenset(shape.fields), rows, 60 * rows, longest, answers) for shape in shapes
    ]


def values(filled: Filled) -> dict[str, Any]:
    return {entry.name: entry.value for entry in filled.decided}


@pytest.mark.parametrize(("recipe", "choice"), EVERY_CHOICE, ids=NAMES)
@given(rows=st.integers(1, 10**7), longest=st.integers(2, 10**6), answers=st.integers(0, 10**9))
def test_every_recipe_and_choice_fills_in_a_request_that_obeys_the_rules_of_its_message(
    recipe: Recipe, choice: str, rows: int, longest: int, answers: int
) -> None:
    for facts in facts_for(recipe, choice, rows, longest, answers):
        response = wire_recipes.filled(fill(recipe.name, facts, choice), "house@2")
        VALIDATOR.validate(response.job)
        assert (response.job.dataset, response.job.model) == ("house@2", f"house-{recipe.name}")
        assert response.job.recipe == f"{recipe.name}:{choice}"
        assert response.notes


@pytest.mark.parametrize(("recipe", "choice"), EVERY_CHOICE, ids=NAMES)
def test_each_setting_is_decided_once_is_one_of_the_domains_and_has_a_reason(recipe: Recipe, choice: str) -> None:
    for facts in facts_for(recipe, choice):
        filled = fill(recipe.name, facts, choice)
        decided = filled.decided
        names = [entry.name for entry in decided]
        assert len(names) == len(set(names))
        assert set(names) <= set(Settings.__dataclass_fields__)
        assert all(entry.reason for entry in decided)
        # What is filled in can be built: types and names are those of the domain.
        replace(Settings(), **values(filled))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_says_all_that_one_needs_to_choose_it(recipe: Recipe) -> None:
    message = wire_recipes.recipe(recipe)
    assert message.recipe == recipe.name
    assert message.title
    assert message.dataset
    assert "Use it when" in message.description
    assert "Do not use it" in message.description
    assert message.default_choice in message.choices
    assert all(message.choices.values())
    assert message.settings.ListFields()
    VALIDATOR.validate(training_pb2.CreateJobRequest(model="m", dataset="d", settings=message.settings))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_example_row_of_a_recipe_is_a_row_that_it_takes(recipe: Recipe) -> None:
    fields = json.loads(wire_recipes.recipe(recipe).example_row)
    kind = recognised(Record(1, fields).fields)
    row_of(1, fields, kind)
    facts = Facts("example", kind, frozenset(fields), 1000, 50_000, 100, 5000)
    for choice in recipe.choices:
        assert recipe.misfit(facts, choice) is None or choice == "letters"


@pytest.mark.parametrize(
    ("name", "choice", "kind", "fields", "missing"),
    [
        ("classify", "", Format.RECORDS, ("text", "output"), '"label"'),
        ("classify", "letters", Format.PROMPT_COMPLETION, ("prompt", "completion"), '"text" and "label"'),
        ("extract", "", Format.RECORDS, ("text", "label"), '"output"'),
        ("rewrite", "", Format.TEXT, ("text",), '"output"'),
        ("answer-from-context", "", Format.RECORDS, ("text", "label"), '"question", "context" and "answer"'),
        ("answer-from-context", "", Format.PROMPT_COMPLETION, ("prompt", "completion"), '"question"'),
        ("prefer", "", Format.CHAT, ("messages",), '"chosen" and "rejected"'),
        ("prefer", "", Format.PROMPT_COMPLETION, ("prompt", "completion"), '"label"'),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_with_the_fields_that_it_lacks(
    name: str, choice: str, kind: Format, fields: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(Failure) as refused:
        fill(name, Facts("house", kind, frozenset(fields), 100, 1000, 50), choice)
    assert refused.value.reason is Reason.RECIPE_UNFIT
    assert f"its rows have no {missing}" in refused.value.sentence
    assert ", ".join(sorted(fields)) in refused.value.sentence


def test_a_recipe_or_choice_that_is_none_is_answered_with_those_there_are() -> None:
    with pytest.raises(Failure) as unknown:
        find("clasify")
    assert unknown.value.reason is Reason.RECIPE_NOT_FOUND
    assert "classify, extract" in unknown.value.sentence
    (facts,) = facts_for(RECIPES["prefer"], "strong")[:1]
    with pytest.raises(Failure) as choice:
        fill("prefer", facts, "stronger")
    assert choice.value.field == "choice"
    assert "gentle, standard, strong" in choice.value.sentence


def test_few_rows_are_gone_through_more_often_and_many_once() -> None:
    recipe = RECIPES["rewrite"]
    epochs = [values(fill("rewrite", facts_for(recipe, "strong", rows)[0], "strong"))["epochs"] for rows in (50, 5000)]
    assert epochs[0] > epochs[1] >= 1
    assert values(fill("rewrite", facts_for(recipe, "strong", 100_000)[0], "strong"))["epochs"] == 1


def test_of_too_few_rows_none_are_held_out_and_nothing_is_compared() -> None:
    filled = fill("classify", facts_for(RECIPES["classify"], "as-written", rows=20)[1])
    chosen = values(filled)
    assert not {"validation_ratio", "generation_rows", "early_stopping_patience", "metric"} & set(chosen)
    assert any("too few to hold some out" in note for note in filled.notes)


def test_long_rows_are_kept_whole_as_far_as_they_may() -> None:
    chosen = values(fill("rewrite", facts_for(RECIPES["rewrite"], "gentle", longest=3000)[0], "gentle"))
    assert chosen["max_row_tokens"] >= 3000
    assert chosen["gradient_checkpointing"] is True
    longest = fill("rewrite", facts_for(RECIPES["rewrite"], "gentle", longest=10**6)[0], "gentle")
    assert values(longest)["max_row_tokens"] == 8192
    assert any("is cut to 8192" in note for note in longest.notes)
    assert "max_row_tokens" not in values(fill("rewrite", facts_for(RECIPES["rewrite"], "gentle", longest=80)[0]))


def test_short_answers_are_compared_by_exact_match() -> None:
    facts = Facts("house", Format.PROMPT_COMPLETION, frozenset({"prompt", "completion"}), 500, 20_000, 90, 1500)
    filled = fill("classify", facts)
    assert values(filled)["metric"] is Metric.EXACT_MATCH
    assert values(filled)["generation_rows"] == 50
    assert any("exact match on held-out rows" in note for note in filled.notes)


def test_pairs_are_for_dpo_and_single_judgements_for_kto() -> None:
    pairs, judged = facts_for(RECIPES["prefer"], "strong")
    assert values(fill("prefer", pairs))["objective"] is Objective.DPO
    assert values(fill("prefer", judged))["objective"] is Objective.KTO
    # Rows that are judged one by one have nothing that they could be preferred to.
    assert values(fill("prefer", pairs))["metric"] is Metric.PREFERENCE_ACCURACY
    assert values(fill("prefer", judged))["metric"] is Metric.LOSS
    betas = [values(fill("prefer", pairs, choice))["beta"] for choice in ("gentle", "standard", "strong")]
    assert betas == sorted(betas, reverse=True)


def test_a_model_is_named_after_its_dataset_as_far_as_a_name_may_go() -> None:
    (facts,) = facts_for(RECIPES["answer-from-context"], "bold")
    long = replace(facts, dataset="a" * 44 + "-" + "b" * 18)
    filled = fill("answer-from-context", long)
    assert filled.model == "a" * 43 + "-answer-from-context"
    assert len(filled.model) == 63
    assert fill("answer-from-context", facts, model="mine").model == "mine"


def test_a_version_keeps_the_recipe_and_the_shape_of_its_prompts() -> None:
    assert lineage("answer-from-context:bold") == {
        "recipe": "answer-from-context",
        "choice": "bold",
        "prompt_format": "numbered-sources-1",
    }
    assert lineage("classify:letters") == {"recipe": "classify", "choice": "letters"}
    assert lineage("somebody's own") == {"recipe": "somebody's own"}
    assert lineage("") == {}


def test_what_a_recipe_shows_of_itself_is_what_it_decides_for_a_thousand_rows() -> None:
    shown = wire_recipes.recipe(RECIPES["classify"]).settings
    assert (shown.lora.rank, shown.metric) == (8, training_pb2.METRIC_EXACT_MATCH)
    assert shown.validation_ratio == pytest.approx(0.1)
