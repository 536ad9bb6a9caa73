"""Settings that cross the wire."""

import json
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trivium.trainer.v1 import training_pb2

from services.trainer.settings import (
    Initialisation,
    Keep,
    Method,
    Metric,
    Objective,
    Schedule,
    Settings,
    Supervision,
    default_learning_rate,
    settings_from,
)
from services.trainer.wire_settings import settings, wire_settings

# As people write them; the wire holds them in single precision.
SINGLES = st.integers(1, 500).map(lambda thousandths: thousandths / 1000)
NAMES = st.sampled_from(["q_proj", "up_proj", "layers.1.mlp.gate_proj"])
LORA = st.fixed_dictionaries(
    {
        "method": st.sampled_from([Method.LORA, Method.RSLORA]),
        "objective": st.just(Objective.SUPERVISED),
        "schedule": st.sampled_from(Schedule),
        "supervision": st.sampled_from(Supervision),
        "keep": st.sampled_from(Keep),
        "metric": st.sampled_from(Metric),
        "initialisation": st.sampled_from(Initialisation),
        "rank": st.integers(1, 512),
        "alpha": SINGLES,
        "dropout": SINGLES,
        "target_modules": st.tuples(NAMES),
        "exclude_modules": st.just(()),
        "layers": st.tuples(st.integers(0, 9)),
        "rank_pattern": st.tuples(st.tuples(NAMES, st.integers(1, 9))),
        "alpha_pattern": st.tuples(st.tuples(NAMES, SINGLES)),
        "max_steps": st.integers(0, 9),
        "sample_rows": st.integers(0, 9),
        "validation_ratio": SINGLES,
        "seed": st.integers(0, 2**62),
        "epsilon": st.floats(1e-12, 1.0),
        "gradient_checkpointing": st.booleans(),
        "early_stopping_patience": st.integers(0, 9),
    }
)


@given(LORA)
def test_settings_come_back_from_the_wire_as_they_went(chosen: dict[str, Any]):
    sent = Settings(**chosen)

    assert settings(wire_settings(sent), 576) == sent


@given(LORA)
def test_settings_come_back_from_a_row_as_they_went(chosen: dict[str, Any]):
    sent = Settings(**chosen)

    assert settings_from(json.loads(json.dumps(asdict(sent)))) == sent


def test_settings_of_an_earlier_release_take_the_defaults_of_what_it_did_not_know():
    stored = {"method": "rslora", "schedule": "cosine", "target_modules": ["q_proj"], "rank": 8}

    assert settings_from(stored) == Settings(
        method=Method.RSLORA, schedule=Schedule.COSINE, target_modules=("q_proj",), rank=8
    )


def test_settings_of_a_later_release_are_refused_by_name():
    with pytest.raises(TypeError, match="momentum"):
        settings_from({"momentum": 1})


def test_every_setting_is_on_the_wire():
    on_the_wire = {
        field.name
        for message in (training_pb2.TrainingSettings, training_pb2.LoraSettings, training_pb2.PreferenceSettings)
        for field in message.DESCRIPTOR.fields
    } - {"lora", "preference"}

    assert on_the_wire == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("named", [["all-linear"], ["q_proj", "all-linear"]])
def test_all_linear_as_a_target_means_every_linear_layer(named: list[str]):
    lora = training_pb2.LoraSettings(target_modules=named)

    assert settings(training_pb2.TrainingSettings(lora=lora), 576) == settings(training_pb2.TrainingSettings(), 576)


def test_the_default_rate_falls_with_the_width_as_the_bases_family_does():
    at_2000 = default_learning_rate(Method.LORA, Objective.SUPERVISED, 2000, "qwen2")
    assert at_2000 == default_learning_rate(Method.LORA, Objective.SUPERVISED, 2000, "llama")
    llama, qwen = (
        settings(training_pb2.TrainingSettings(), 896, family).learning_rate for family in ("llama", "qwen2")
    )
    assert llama == pytest.approx(9.36e-4, rel=1e-2)
    assert qwen == pytest.approx(5.32e-4, rel=1e-2)


@pytest.mark.parametrize("rank", [1, 8, 16, 64])
def test_every_method_scales_an_adapter_by_two_where_nobody_says_otherwise(rank: int):
    for method in ("LORA", "RSLORA", "DORA", "QLORA"):
        chosen = training_pb2.TrainingSettings(
            method=training_pb2.Method.Value(f"METHOD_{method}"), lora=training_pb2.LoraSettings(rank=rank)
        )
        divisor = rank**0.5 if method == "RSLORA" else rank
        assert settings(chosen, 576).alpha / divisor == pytest.approx(2.0)


def test_the_default_rate_is_ten_times_less_for_full_training_and_for_preferences():
    lora = default_learning_rate(Method.LORA, Objective.SUPERVISED, 576)

    assert default_learning_rate(Method.FULL, Objective.SUPERVISED, 576) == lora / 10
    assert default_learning_rate(Method.RSLORA, Objective.DPO, 576) == lora / 10
    assert settings(training_pb2.TrainingSettings(), 576).learning_rate == lora
