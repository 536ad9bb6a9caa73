"""Every setting is honoured or refused by name when a job is ordered, and none is refused that means nothing else."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from trivium.trainer.v1 import training_pb2

from services.chassis.errors import Failure, Reason
from services.trainer import wire_recipes
from services.trainer.bank.spec import linear_layers
from services.trainer.bases import Chosen
from services.trainer.going_on import Shape, Start
from services.trainer.honoured import require_honoured
from services.trainer.job import Order
from services.trainer.needs import _NAMED_AS_LLAMAS, Architecture, architecture
from services.trainer.planning import Allowance
from services.trainer.recipes.filling import RECIPES, fill
from services.trainer.settings import Method
from services.trainer.wire_jobs import order
from services.trainer.wire_settings import wire_settings
from tests.unit.trainer.recipes.test_filling import EVERY_CHOICE, NAMES, facts_for

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LLAMA = Architecture(32, 64, 2, 100, tied=True, linears=dict.fromkeys(LINEARS, (32, 32)), model_type="llama")
UNKNOWN = replace(LLAMA, model_type="made-at-home")
HELD_OUT = {"validation_ratio": 0.1}
ADAPTERS = ("METHOD_LORA", "METHOD_RSLORA", "METHOD_DORA", "METHOD_QLORA")


def ordered(fields: Mapping[str, Any], base: Architecture = LLAMA, **job: Any) -> Order:
    """The order that a request with these settings makes."""
    request = training_pb2.CreateJobRequest(model="m", dataset="d", settings=fields, **job)  # type: ignore[arg-type]  # a message as a mapping
    start = Start(job["start_version"], "sha256:1", Shape(Method.LORA, 16, 32.0)) if "start_version" in job else None
    return order(request, Chosen("tiny", "sha256:base", "", base), start, Allowance())


def refused(fields: Mapping[str, Any], base: Architecture = LLAMA, **job: Any) -> Failure:
    """What such an order is refused with."""
    with pytest.raises(Failure) as raised:
        require_honoured(ordered(fields, base, **job), base)
    return raised.value


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        *(
            (f"settings.lora.{name}", {"method": "METHOD_FULL", "lora": {name: value}})
            for name, value in {
                "rank": 8,
                "alpha": 8.0,
                "dropout": 0.1,
                "target_modules": ["q_proj"],
                "exclude_modules": ["q_proj"],
                "layers": [0],
                "rank_pattern": {"q_proj": 4},
                "alpha_pattern": {"q_proj": 4.0},
                "initialisation": "INITIALISATION_GAUSSIAN",
            }.items()
        ),
        *(
            (f"settings.preference.{name}", {"objective": objective, "preference": {name: 0.3}})
            for objective, names in {
                "OBJECTIVE_SUPERVISED": ("beta", "label_smoothing", "desirable_weight", "undesirable_weight"),
                "OBJECTIVE_CONTINUED": ("beta", "label_smoothing", "desirable_weight", "undesirable_weight"),
                "OBJECTIVE_DPO": ("desirable_weight", "undesirable_weight"),
                "OBJECTIVE_KTO": ("label_smoothing",),
            }.items()
            for name in names
        ),
        *(
            ("settings.supervision", {"objective": f"OBJECTIVE_{name}", "supervision": "SUPERVISION_ALL"})
            for name in ("CONTINUED", "DPO", "KTO")
        ),
        *(
            ("settings.packing", {"objective": f"OBJECTIVE_{name}", "packing": True, "method": "METHOD_FULL"})
            for name in ("DPO", "KTO")
        ),
        *(
            (f"settings.{name}", {name: value})
            for name, value in {
                "evaluation_steps": 5,
                "early_stopping_patience": 2,
                "early_stopping_delta": 0.1,
                "generation_rows": 5,
                "generation_tokens": 8,
                "metric": "METRIC_TOKEN_F1",
                "keep": "KEEP_BEST",
            }.items()
        ),
        ("settings.metric", {"objective": "OBJECTIVE_DPO", "metric": "METRIC_LOSS"}),
        *(
            ("settings.generation_rows", HELD_OUT | {"metric": f"METRIC_{name}"})
            for name in ("EXACT_MATCH", "TOKEN_F1", "VALID_JSON")
        ),
        *(
            (
                "settings.metric",
                HELD_OUT | {"metric": "METRIC_PREFERENCE_ACCURACY", "objective": f"OBJECTIVE_{name}"},
            )
            for name in ("SUPERVISED", "CONTINUED", "KTO")
        ),
        *(
            (f"settings.{name}", HELD_OUT | nothing_asked | {name: value})
            for nothing_asked in ({"objective": "OBJECTIVE_CONTINUED"}, {"supervision": "SUPERVISION_ALL"})
            for name, value in {"generation_rows": 5, "metric": "METRIC_EXACT_MATCH"}.items()
        ),
        ("settings.generation_tokens", HELD_OUT | {"generation_tokens": 8}),
        ("settings.early_stopping_delta", HELD_OUT | {"early_stopping_delta": 0.1}),
    ],
)
def test_what_contradicts_the_rest_of_the_order_is_refused_by_name(path: str, fields: dict[str, Any]) -> None:
    failure = refused(fields)
    assert (failure.reason, failure.field) == (Reason.FIELD_INVALID, path)


@pytest.mark.parametrize("method", ADAPTERS)
@pytest.mark.parametrize(
    ("field", "lora", "words"),
    [
        ("target_modules", {"target_modules": ["query"]}, "no linear layer query; it has down_proj, gate_proj"),
        ("exclude_modules", {"exclude_modules": ["query"]}, "no linear layer query; it has down_proj, gate_proj"),
        ("exclude_modules", {"exclude_modules": list(LINEARS)}, "no linear layer is left to adapt"),
        ("layers", {"layers": [0, 2]}, "the base has no layer 2; it has 0 to 1"),
        ("layers", {"layers": [1, 2, 4, 5, *range(7, 100)]}, "the base has no layer 2, 4, 5, 7-99; it has 0 to 1"),
        ("rank_pattern", {"rank_pattern": {"query": 4}}, "the pattern query fits no linear layer"),
        ("alpha_pattern", {"alpha_pattern": {"query": 4.0}}, "the pattern query fits no linear layer"),
        ("rank", {"rank": 3, "initialisation": "INITIALISATION_ORTHOGONAL"}, "the rank is 3"),
        (
            "rank_pattern",
            {"rank_pattern": {"q_proj": 3}, "initialisation": "INITIALISATION_ORTHOGONAL"},
            "the rank is 3",
        ),
    ],
)
def test_what_the_base_lacks_is_refused_by_name(method: str, field: str, lora: dict[str, Any], words: str) -> None:
    failure = refused({"method": method, "lora": lora})
    assert (failure.reason, failure.field) == (Reason.SETTINGS_UNFIT, f"settings.lora.{field}")
    assert words in failure.sentence


def test_a_base_whose_layers_only_loading_tells_is_asked_for_their_number_alone() -> None:
    require_honoured(ordered({"lora": {"target_modules": ["query"]}}, UNKNOWN), UNKNOWN)
    assert refused({"lora": {"layers": [2]}}, UNKNOWN).field == "settings.lora.layers"


@pytest.mark.parametrize("model_type", sorted(_NAMED_AS_LLAMAS))
def test_a_base_that_is_said_to_be_named_as_llamas_is(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    for name, value in {**sizes, "num_hidden_layers": 2, "vocab_size": 64, "pad_token_id": 0, "head_dim": 8}.items():
        setattr(config, name, value)
    for name in ("layer_types", "no_rope_layers"):
        if getattr(config, name, None):
            setattr(config, name, getattr(config, name)[:2])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert set(architecture(config.to_dict()).layer_names) == set(linear_layers(model))


@pytest.mark.parametrize(
    ("path", "fields", "job"),
    [
        ("recipe", {}, {"recipe": "clasify:letters"}),
        ("recipe", {}, {"recipe": "classify:numbers"}),
        ("start_version", {"method": "METHOD_FULL"}, {"start_version": "m@1"}),
    ],
)
def test_the_order_itself_is_held_to_it_too(path: str, fields: dict[str, Any], job: dict[str, Any]) -> None:
    failure = refused(fields, **job)
    assert (failure.reason, failure.field) == (Reason.FIELD_INVALID, path)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        # What is said is what the default says.
        {"method": "METHOD_FULL", "lora": {"rank": 16, "alpha": 32.0, "target_modules": ["all-linear"]}},
        {"method": "METHOD_FULL", "packing": True, "gradient_checkpointing": True},
        {"preference": {"beta": 0.1}, "supervision": "SUPERVISION_LAST_ANSWER"},
        {"objective": "OBJECTIVE_CONTINUED", "supervision": "SUPERVISION_ASSISTANT", "packing": True},
        {"objective": "OBJECTIVE_DPO", "preference": {"label_smoothing": 0.1, "desirable_weight": 1.0}},
        {"objective": "OBJECTIVE_DPO", "metric": "METRIC_PREFERENCE_ACCURACY"},
        {"objective": "OBJECTIVE_KTO", "preference": {"undesirable_weight": 2.0, "label_smoothing": 0.0}},
        {"metric": "METRIC_LOSS", "keep": "KEEP_LAST", "generation_tokens": 64},
        HELD_OUT | {"metric": "METRIC_VALID_JSON", "generation_rows": 5, "generation_tokens": 8, "keep": "KEEP_BEST"},
        HELD_OUT | {"objective": "OBJECTIVE_DPO", "metric": "METRIC_LOSS", "generation_rows": 5},
        HELD_OUT | {"early_stopping_patience": 2, "early_stopping_delta": 0.1, "evaluation_steps": 5},
        HELD_OUT | {"supervision": "SUPERVISION_ALL", "metric": "METRIC_LOSS"},
        {"lora": {"target_modules": ["self_attn.q_proj"], "layers": [1], "rank_pattern": {"layers.1.mlp.up_proj": 4}}},
        {"method": "METHOD_DORA", "lora": {"exclude_modules": ["mlp.up_proj"], "alpha_pattern": {"q_proj": 4.0}}},
        {
            "lora": {
                "rank": 3,
                "target_modules": ["q_proj"],
                "rank_pattern": {"q_proj": 4},
                "initialisation": "INITIALISATION_ORTHOGONAL",
            }
        },
    ],
)
def test_what_is_honoured_is_taken_and_may_be_ordered_again_as_a_job_shows_it(fields: dict[str, Any]) -> None:
    asked = ordered(fields)
    require_honoured(asked, LLAMA)
    shown = wire_settings(asked.settings)
    again = order(
        training_pb2.CreateJobRequest(model="m", dataset="d", settings=shown),
        Chosen("tiny", "sha256:base", "", LLAMA),
        None,
        Allowance(),
    )
    assert again.settings == asked.settings
    require_honoured(again, LLAMA)


@pytest.mark.parametrize("method", Method)
def test_a_dataset_of_its_own_is_something_to_evaluate_on(method: Method) -> None:
    fields = {"method": f"METHOD_{method.name}", "early_stopping_patience": 2, "generation_rows": 5}
    asked = ordered(fields | {"metric": "METRIC_EXACT_MATCH"}, validation_dataset="held-out")
    require_honoured(asked, LLAMA)
    assert asked.settings.keep.name == "BEST"
    assert ordered(fields).settings.keep.name == "LAST"


@pytest.mark.parametrize(("recipe", "choice"), EVERY_CHOICE, ids=NAMES)
@pytest.mark.parametrize("rows", [1, 29, 30, 500, 10**6])
def test_what_a_recipe_fills_in_is_taken(recipe: Any, choice: str, rows: int) -> None:
    for facts in facts_for(recipe, choice, rows, longest=5000):
        filled = wire_recipes.filled(fill(recipe.name, facts, choice), "house").job
        chosen = Chosen("tiny", "sha256:base", "", LLAMA)
        require_honoured(order(filled, chosen, None, Allowance()), LLAMA)
        # Judged on rows of their own, too.
        filled.validation_dataset = "held-out"
        require_honoured(order(filled, chosen, None, Allowance()), LLAMA)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_without_its_choice_is_a_recipe(name: str) -> None:
    require_honoured(ordered({}, recipe=name), LLAMA)


def test_the_tests_own_base_is_one_whose_layers_are_known(base: Path) -> None:
    assert architecture(json.loads((base / "config.json").read_text())).layer_names


@pytest.mark.parametrize("method", ["METHOD_UNSPECIFIED", "METHOD_LORA", "METHOD_RSLORA"])
def test_a_base_that_no_job_can_share_is_refused_with_what_trains_on_it(method: str) -> None:
    base = replace(LLAMA, unjoinable="a base of the kind x has y")
    failure = refused({"method": method}, base)
    assert (failure.reason, failure.field) == (Reason.SETTINGS_UNFIT, "settings.method")
    assert "has y: choose a method that trains alone, dora, qlora or full" in failure.sentence
    for alone in ("METHOD_DORA", "METHOD_QLORA", "METHOD_FULL"):
        require_honoured(ordered({"method": alone}, base), base)
