"""Recipes through the running service."""

import json
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from trivium.registry.v1 import registry_pb2
from trivium.trainer.v1 import training_pb2
from trivium_client import Trivium

from tests.contract.trainer.deployment import Caller, Deployment
from tests.contract.trainer.test_datasets import failed
from tests.unit.trainer.tiny import rows_text


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


@pytest.fixture(scope="module")
def pairs(caller: Caller) -> str:
    """A dataset of prompts and completions."""
    return str(caller.upload(rows_text(20).encode(), "house-pairs.jsonl").dataset)


def fill(caller: Caller, **fields: str) -> training_pb2.FillRecipeResponse:
    """A request that a recipe fills in."""
    request = training_pb2.FillRecipeRequest(**fields)
    response: training_pb2.FillRecipeResponse = caller.training.FillRecipe(request, metadata=caller.metadata)
    return response


@pytest.mark.parametrize(
    ("labels", "label"), [(27, "label"), (230, "label"), (27, "long " * 20)], ids=["27", "over 200", "long"]
)
def test_more_labels_than_there_are_letters_are_refused_before_anything_is_trained(
    caller: Caller, labels: int, label: str
) -> None:
    rows = [{"text": f"text {number}", "label": f"{label} {number % labels}"} for number in range(2 * labels)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    records = caller.upload(content, f"labels-{labels}-{len(label)}.jsonl", piece=10_000).dataset
    job = training_pb2.CreateJobRequest(
        model="m",
        dataset=records,
        recipe="classify:letters",
        settings=training_pb2.TrainingSettings(validation_ratio=0.2),
    )
    axes = [training_pb2.SweepAxis(setting="epochs", values=["1", "2"])]
    asked: list[Callable[[], object]] = [
        lambda: fill(caller, recipe="classify", dataset=records, choice="letters"),
        lambda: caller.training.CreateJob(job, metadata=caller.metadata),
        lambda: caller.training.EstimateJob(training_pb2.EstimateJobRequest(job=job), metadata=caller.metadata),
        lambda: caller.training.CreateSweep(
            training_pb2.CreateSweepRequest(job=job, axes=axes), metadata=caller.metadata
        ),
    ]
    for ask in asked:
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        assert failed(refused.value)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "RECIPE_UNFIT")
        assert f"it has {labels} labels, and letters takes at most 26; choose as-written" in str(
            refused.value.details()
        )
    filled = fill(caller, recipe="classify", dataset=records)
    assert filled.distinct_answers == labels
    assert any("2.0 rows a label" in note for note in filled.notes)


def test_a_request_that_a_recipe_filled_in_is_taken_as_it_is(caller: Caller, pairs: str) -> None:
    filled = fill(caller, recipe="rewrite", dataset=pairs, choice="gentle")
    assert (filled.job.model, filled.job.dataset) == ("house-pairs-rewrite", pairs)
    assert filled.job.settings.lora.rank == 8
    assert any(note.startswith("rank 8: ") for note in filled.notes)
    job = caller.training.CreateJob(filled.job, metadata=caller.metadata).job
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job.job), metadata=caller.metadata)
    assert (job.settings.lora.rank, job.settings.epochs) == (8, filled.job.settings.epochs)


def test_records_are_told_apart_by_their_fields_and_train_by_the_recipe(caller: Caller) -> None:
    rows = [{"text": f"text {number}", "label": ("pay", "ship")[number % 2]} for number in range(40)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    records = caller.upload(content, "house-labels.jsonl").dataset
    filled = fill(caller, recipe="classify", dataset=records, choice="letters")
    assert (filled.job.recipe, filled.distinct_answers) == ("classify:letters", 2)
    assert any("There are 2 labels; ask the version as its rows ask, which trivium data" in it for it in filled.notes)
    with pytest.raises(grpc.RpcError) as refused:
        fill(caller, recipe="extract", dataset=records)
    assert 'its rows have no "output"; they have label, text' in str(refused.value.details())
    filled.job.settings.max_steps = 2
    filled.job.settings.generation_rows = 1
    job = caller.finished(caller.training.CreateJob(filled.job, metadata=caller.metadata).job.job)
    assert job.state == training_pb2.JOB_STATE_SUCCEEDED, job.error
    request = registry_pb2.GetVersionRequest(version=job.version)
    lineage = caller.registry.GetVersion(request, metadata=caller.metadata).version.lineage
    assert MessageToDict(lineage.config)["choice"] == "letters"


@pytest.mark.parametrize("judged", [False, True], ids=["pairs", "judged"])
def test_what_the_recipe_prefer_fills_in_trains_to_a_version(caller: Caller, *, judged: bool) -> None:
    prompts = [f"How do I pay for ticket {number}?" for number in range(40)]
    rows: list[dict[str, object]] = [
        {"prompt": prompt, "completion": "At desk nine.", "label": number % 2 == 0}
        if judged
        else {"prompt": prompt, "chosen": "At desk nine.", "rejected": "No idea."}
        for number, prompt in enumerate(prompts)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    dataset = caller.upload(content, f"preferred-{judged}.jsonl").dataset
    filled = fill(caller, recipe="prefer", dataset=dataset)
    # Enough rows to hold some out, which are evaluated by the recipe's metric.
    assert filled.job.settings.validation_ratio > 0
    filled.job.settings.max_steps = 2
    job = caller.finished(caller.training.CreateJob(filled.job, metadata=caller.metadata).job.job)
    assert job.state == training_pb2.JOB_STATE_SUCCEEDED, job.error
    assert job.best_step > 0


@pytest.mark.parametrize(
    ("fields", "code", "reason", "words"),
    [
        ({"recipe": "prefer"}, "FAILED_PRECONDITION", "RECIPE_UNFIT", 'have no "label"; they have completion, prompt'),
        ({"recipe": "prefr"}, "NOT_FOUND", "RECIPE_NOT_FOUND", "there are classify, extract"),
        ({"recipe": "prefer", "choice": "much"}, "INVALID_ARGUMENT", "FIELD_INVALID", "gentle, standard, strong"),
        ({"recipe": "prefer", "dataset": "none"}, "NOT_FOUND", "DATASET_NOT_FOUND", "none"),
    ],
)
def test_what_no_recipe_can_fill_in_is_refused_with_what_to_do(
    caller: Caller, pairs: str, fields: dict[str, str], code: str, reason: str, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        fill(caller, **({"dataset": pairs} | fields))
    assert failed(refused.value)[:2] == (grpc.StatusCode[code], reason)
    assert words in str(refused.value.details())


def test_the_sdk_fills_in_an_order_that_it_takes(deployment: Deployment, pairs: str) -> None:
    with Trivium(data_dir=deployment.folder) as client:
        assert "rewrite" in {recipe.recipe for recipe in client.recipes.list()}
        filled = client.recipes.fill("rewrite", pairs, model="mine")
        job = client.jobs.create(**filled.order())
        client.jobs.cancel(job.job)
    assert (job.model, job.settings.lora.rank) == ("mine", 16)
    assert filled.notes
