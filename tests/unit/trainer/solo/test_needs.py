import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.trainer.needs import architecture
from services.trainer.settings import Method, Objective, Settings
from services.trainer.solo.needs import solo_parts
from tests.unit.trainer.solo.small_jobs import METHODS, with_settings


def test_what_is_trained_is_counted_to_the_last_parameter_but_norms(base: Path) -> None:
    from services.trainer.solo import models

    config = json.loads((base / "config.json").read_text())
    for method in METHODS:
        settings = with_settings(
            method=method,
            target_modules=("q_proj", "up_proj", "down_proj"),
            exclude_modules=("mlp.up_proj",),
            layers=(1,),
        )
        parameters = models.trained(models.load(base, settings))
        norms = sum(value.numel() for name, value in parameters.items() if "norm" in name)
        counted = sum(value.numel() for value in parameters.values()) - norms
        assert solo_parts(architecture(config), settings)["moments"] == 8 * counted, method


def test_the_parts_follow_the_settings(base: Path) -> None:
    shape = architecture(json.loads((base / "config.json").read_text()))
    plain = Settings(method=Method.FULL, max_row_tokens=512)

    def parts(**changes: Any) -> dict[str, int]:
        return solo_parts(shape, replace(plain, **changes))

    whole = parts()
    assert "best weights so far" not in whole
    # Weights and both moments.
    assert whole["copies for a checkpoint"] == 3 * whole["trained weights"]
    evaluated = parts(validation_ratio=0.1)
    assert evaluated["best weights so far"] * 2 == whole["trained weights"]
    # Those that were best when it was taken are held by the checkpoint that is being written.
    assert evaluated["copies for a checkpoint"] == whole["copies for a checkpoint"] + evaluated["best weights so far"]
    assert parts(micro_batch_tokens=4096)["activations"] == 2 * whole["activations"]
    # One row goes through whole, however few tokens a part may hold.
    assert parts(micro_batch_tokens=1)["activations"] == parts(micro_batch_tokens=512)["activations"]
    assert parts(micro_batch_tokens=1, objective=Objective.DPO)["activations"] * 2 == whole["activations"]
    assert parts(gradient_checkpointing=True)["activations"] < whole["activations"]
    quantised, half = parts(method=Method.QLORA), parts(method=Method.DORA)
    assert quantised["base"] < half["base"]
    assert half["gradients"] < whole["gradients"]
