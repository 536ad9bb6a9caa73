"""What is told of a setting that nobody says is what the trainer takes, and every setting is told of."""

import re
from dataclasses import fields
from typing import Any, cast

import pytest
import typer
from trivium_client import Trivium
from trivium_client.cli import train
from trivium_client.cli.main import app
from trivium_client.cli.rules import takes
from trivium_client.cli.settings_table import _SETTINGS, default_of
from trivium_client.cli.settings_text import setting_names
from trivium_client.cli.training_options import Options
from trivium_client.nouns import Recipe, TrainingSettings
from typer.testing import CliRunner

from services.trainer.settings import Settings
from tests.harness.wording import missing

# Those whose default is not one value: it depends on the rest of the order, or stands for what there is.
IN_WORDS = {
    "lora.alpha": 32.0,
    "lora.target_modules": (),
    "lora.exclude_modules": (),
    "lora.layers": (),
    "lora.rank_pattern": (),
    "lora.alpha_pattern": (),
    "learning_rate": 1e-3,
    "max_steps": 0,
    "sample_rows": 0,
    "evaluation_steps": 0,
    "early_stopping_patience": 0,
    "metric": "loss",
    "keep": "best",
}


def test_every_setting_is_told_of_with_what_it_takes() -> None:
    assert set(_SETTINGS) == set(setting_names())
    assert all(takes(name) for name in setting_names())
    assert not missing(takes("lora.rank"), "1", "512")
    assert takes("schedule") == "linear, cosine, constant, stable_decay"
    assert not missing(takes("packing"), "true", "false")
    assert not missing(takes("lora.rank_pattern"), "NAME:VALUE")


@pytest.mark.parametrize("name", setting_names())
def test_a_default_that_is_told_is_the_trainers(name: str) -> None:
    kept = getattr(Settings(), name.rpartition(".")[2])
    if name in IN_WORDS:
        assert kept == IN_WORDS[name]
    elif isinstance(kept, bool | str):
        assert default_of(name) == str(kept).lower()
    else:
        assert float(default_of(name)) == kept


def test_the_help_of_a_training_command_tells_what_holds_without_an_option() -> None:
    group: Any = cast("Any", typer.main.get_command(app)).commands["train"]
    for command in ("run", "start", "sweep"):
        told = {parameter.name: parameter for parameter in group.commands[command].params}
        assert (told["rank"].show_default, told["epochs"].show_default) == ("16", "3")
        silent = {each.name for each in fields(Options) if each.default is None and not told[each.name].show_default}
        assert silent <= {"after", "settings"}


def test_settings_are_listed_by_what_says_them() -> None:
    ran = CliRunner().invoke(app, ["train", "settings"])
    lines = ran.stdout.splitlines()
    assert len(lines) == len(setting_names()) + 1
    rank = next(line for line in lines if line.startswith("--rank "))
    assert re.match(r"--rank +16 +\S.*\b1\b.*\b512\b", rank)
    assert any(line.startswith("--set weight_decay=VALUE ") for line in lines)


def test_a_recipe_is_listed_with_its_choices_and_told_in_full_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = {"as-written": "The label itself.", "letters": "A letter for each."}
    classify = Recipe(
        "classify", "Labels", "One of a few.", "text, label", choices, "as-written", "{}", TrainingSettings()
    )

    class Client:
        recipes = type("Recipes", (), {"list": lambda self: [classify]})()

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *why: object) -> None: ...

    monkeypatch.setattr(train, "Trivium", cast("type[Trivium]", Client))
    listed = CliRunner().invoke(app, ["train", "recipes"]).stdout.splitlines()
    assert "as-written      as-written, letters" in listed[1]
    whole = CliRunner().invoke(app, ["train", "recipes", "classify"]).stdout.splitlines()
    assert "    letters     A letter for each." in whole
    refused = CliRunner().invoke(app, ["train", "recipes", "sort"])
    assert not missing(str(refused.exception), "sort", "classify")
