"""What `trivium train` takes: a file or a command, options that become an order, and what it says before and after."""

import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer
from trivium_client import InvalidRequestError, Trivium
from trivium_client.cli.main import app
from trivium_client.cli.naming import standing
from trivium_client.cli.refusals import rows_refused, said_of_rows
from trivium_client.cli.settings_text import setting_names, with_setting
from trivium_client.cli.training_options import Method, Objective, Options, fields_of, filled_fields
from trivium_client.cli.training_run import (
    _end_served,
    _question,
    _some_of_each_kind,
    estimate_lines,
    model_of,
    say_estimate,
    uploaded,
)
from trivium_client.errors import FieldViolation
from trivium_client.nouns import (
    Alias,
    Dataset,
    DatasetProblem,
    FilledRecipe,
    JobEstimate,
    LoraSettings,
    PreferenceSettings,
    TrainingSettings,
)
from typer.testing import CliRunner

from tests.harness.wording import missing

FILLED = FilledRecipe(
    model="pairs-classify",
    dataset="pairs",
    recipe="classify:many",
    settings=TrainingSettings(epochs=5, seed=1, lora=LoraSettings(rank=8, alpha=8.0)),
    notes=("epochs 5: there are few rows.", "rank 8: it is enough.", "seed 1: any would do.", "40 rows are few."),
)
PREFERRED = TrainingSettings(
    objective="dpo",
    lora=LoraSettings(rank=16),
    validation_ratio=0.1,
    metric="preference_accuracy",
    keep="best",
    early_stopping_patience=3,
    generation_rows=10,
    preference=PreferenceSettings(beta=0.3),
)


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The command that words behind `trivium train` mean, and what is left for it."""
    group: Any = cast("Any", typer.main.get_command(app)).commands["train"]
    context = group.make_context("train", list(words))
    name, _, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    return name, rest


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the folder that one works in."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}\n")
    return file


@pytest.mark.parametrize(
    "words",
    [
        ["pairs.jsonl", "--epochs", "2"],
        ["run", "pairs.jsonl", "--epochs", "2"],
        ["--epochs", "2", "pairs.jsonl"],
        ["no-such-file.csv"],
        ["./list"],
    ],
)
def test_a_file_where_a_command_stands_means_run(rows: Path, words: list[str]) -> None:
    name, rest = command_of(words)
    assert name == "run"
    assert rest == [word for word in words if word != "run"]


def test_a_command_stays_one_beside_a_file_of_its_name(rows: Path) -> None:
    (rows.parent / "list").touch()
    assert command_of(["list"]) == ("list", [])
    assert command_of(["watch", "8e2a17"]) == ("watch", ["8e2a17"])


def test_a_word_that_is_neither_is_told_what_to_say(rows: Path) -> None:
    ran = CliRunner().invoke(app, ["train", "desk-pairs"], env={"COLUMNS": "200"})
    assert ran.exit_code == 2
    assert "trivium train start desk-pairs --model NAME" in ran.output
    near = CliRunner().invoke(app, ["train", "wacth", "8e2a17"], env={"COLUMNS": "200"})
    assert "'watch'" in near.output


def test_options_that_are_not_given_leave_the_defaults_to_the_trainer() -> None:
    order = fields_of(Options())
    assert order["settings"] == TrainingSettings()
    assert (order["alias"], order["priority"], order["deadline"]) == ("prod", "", None)


def test_options_become_the_order() -> None:
    options = Options(
        alias="-",
        start_version="desk@1",
        after=["first", "second"],
        deadline="6h",
        rank=4,
        dropout=0.1,
        target=["q_proj", "v_proj"],
        layers="0-2,5",
        warmup_ratio=0.2,
        early_stopping=3,
        settings=["keep=last", "lora.rank_pattern=q_proj:4,k_proj:2", "packing=true", "preference.beta=0.3"],
    )
    order = fields_of(options)
    settings = order["settings"]
    assert (order["alias"], order["start_version"], order["depends_on"]) == ("", "desk@1", ["first", "second"])
    deadline = order["deadline"]
    assert deadline is not None
    assert abs(deadline - datetime.now(UTC) - timedelta(hours=6)) < timedelta(minutes=1)
    assert settings.lora == LoraSettings(
        rank=4,
        dropout=0.1,
        target_modules=("q_proj", "v_proj"),
        layers=(0, 1, 2, 5),
        rank_pattern={"q_proj": 4, "k_proj": 2},
    )
    assert (settings.warmup_ratio, settings.early_stopping_patience) == (0.2, 3)
    assert (settings.keep, settings.packing, settings.preference.beta) == ("last", True, 0.3)


def test_a_recipe_is_what_the_options_are_said_over() -> None:
    asked: list[tuple[str, str, str]] = []

    def fill(recipe: str, dataset: str, *, choice: str) -> FilledRecipe:
        asked.append((recipe, dataset, choice))
        return FILLED

    client = cast("Trivium", SimpleNamespace(recipes=SimpleNamespace(fill=fill)))
    order, notes = filled_fields(Options(recipe="classify:many", epochs=2, rank=16), client, "pairs")
    assert (asked, order["recipe"], notes) == ([("classify", "pairs", "many")], FILLED.recipe, FILLED.notes[2:])
    assert order["settings"] == TrainingSettings(epochs=2, seed=1, lora=LoraSettings(rank=16, alpha=8.0))
    assert filled_fields(Options(), client, "pairs") == (fields_of(Options()), ())
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({}, PREFERRED),
        ({"validation": "others"}, PREFERRED),
        ({"method": Method.FULL}, replace(PREFERRED, method="full", lora=LoraSettings())),
        ({"settings": ["method=full"]}, replace(PREFERRED, method="full", lora=LoraSettings())),
        # The adapter that is gone on from says how it is shaped.
        ({"start_version": "desk@1"}, replace(PREFERRED, lora=LoraSettings())),
        ({"start_version": "desk@1", "rank": 16}, PREFERRED),
        # What is said by hand stays, for the trainer to refuse.
        ({"method": Method.FULL, "rank": 4}, replace(PREFERRED, method="full", lora=LoraSettings(rank=4))),
        (
            {"validation_ratio": 0.0},
            replace(
                PREFERRED, validation_ratio=0.0, keep="", metric="", early_stopping_patience=None, generation_rows=None
            ),
        ),
        (
            {"objective": Objective.KTO},
            replace(PREFERRED, objective="kto", metric="", generation_rows=None),
        ),
        (
            {"objective": Objective.SUPERVISED},
            replace(
                PREFERRED, objective="supervised", metric="", generation_rows=None, preference=PreferenceSettings()
            ),
        ),
    ],
)
def test_what_a_recipe_filled_in_gives_way_to_what_is_said(said: dict[str, Any], left: TrainingSettings) -> None:
    assert fields_of(Options(**said), PREFERRED)["settings"] == left


def test_every_setting_can_be_said_by_its_name() -> None:
    texts = {"bool": "true", "int": "3", "float": "0.5", "str": "last", "tuple": "1,2", "Mapping": "q_proj:4"}
    settings = TrainingSettings()
    for name in setting_names():
        for text in texts.values():
            try:
                changed = with_setting(settings, name, text)
            except ValueError:
                continue
            break
        assert changed != settings, name
        settings = changed
    unset = {name for name in setting_names() if f"{name.rpartition('.')[2]}=None" in repr(settings)}
    assert unset == set()


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("learning_rat=1", ("learning_rat", "learning_rate")),
        ("rank=4", ("lora.rank",)),
        ("epochs=many", ("epochs", "whole number", "many")),
        ("packing=perhaps", ("packing", "true", "false")),
        ("lora.rank_pattern=q_proj", ("lora.rank_pattern", "NAME:VALUE")),
        ("lora.layers=a", ("lora.layers", "commas")),
    ],
)
def test_a_setting_that_is_none_is_refused_with_what_may_be_said(setting: str, named: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(named[0])) as refused:
        fields_of(Options(settings=[setting]))
    assert not missing(str(refused.value), *named)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(settings=["epochs"]), "epochs.*NAME=VALUE"),
        (Options(layers="first"), "first.*layer"),
        (Options(deadline="soon"), "soon.*time"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(options: Options, named: str) -> None:
    with pytest.raises(typer.BadParameter, match=named):
        fields_of(options)


def test_settings_that_there_are_fit_a_terminal() -> None:
    with pytest.raises(ValueError, match=r"'foo'.*\n") as refused:
        fields_of(Options(settings=["foo=1"]))
    _, *lines = str(refused.value).splitlines()
    assert ", ".join(line.strip().rstrip(",") for line in lines) == ", ".join(setting_names())
    assert max(map(len, lines)) <= 80


def test_of_warnings_that_say_the_same_of_many_lines_a_few_are_shown() -> None:
    repeated = [DatasetProblem(line, "", f"the row repeats line {line - 9}; drop one", False) for line in range(10, 30)]
    cut = DatasetProblem(31, "", "the row has 400 tokens, over 300; it will be cut", False)
    assert _some_of_each_kind([*repeated, cut]) == [*repeated[:3], cut]


def test_a_model_is_named_after_its_file_where_that_makes_a_name() -> None:
    assert model_of(Path("Desk Pairs (v2).jsonl")) == "desk-pairs-v2"
    for file in ("base.jsonl", "___.csv"):
        with pytest.raises(typer.BadParameter, match="--model NAME"):
            model_of(Path(file))


def test_the_line_to_chat_asks_what_a_row_asks_without_anything_before_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows: list[Any] = [
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Before?"}]},
        {"messages": [{"role": "user", "content": "x" * 500}, {"role": "assistant", "content": "y"}]},
        {"messages": [{"role": "user", "content": "What's the fine?"}, {"role": "assistant", "content": "40"}]},
    ]
    file.write_text("not JSON\n7\n" + "".join(json.dumps(row) + "\n" for row in rows))
    assert shlex.split(_question(file)) == ["What's the fine?"]
    file.write_text(json.dumps({"prompt": "Say red; rm -rf .", "completion": "red"}) + "\n")
    assert shlex.split(_question(file)) == ["Say red; rm -rf ."]
    assert _question(tmp_path / "rows.parquet") == ""


def test_where_an_alias_stands_is_one_sentence_also_where_its_reason_is_one() -> None:
    said = standing(
        Alias("r32", "prod", "sha256:ab", "", "failed", "The files were refused: rank 32 is over 16.", "1", None)
    )
    assert not missing(said, "r32@prod", "nothing", "sha256:ab")
    assert said.endswith(": The files were refused: rank 32 is over 16.")


def test_a_version_that_could_not_be_served_is_kept_and_the_line_that_serves_it_is_told(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = Alias("r32", "prod", "sha256:ab", "", "failed", "rank 32 is over 16.", "1", None)
    client = cast("Trivium", SimpleNamespace(models=SimpleNamespace(wait_alias=lambda model, alias: failed)))
    job = cast("Any", SimpleNamespace(model="r32", alias="prod", version="sha256:ab"))
    with pytest.raises(typer.Exit):
        _end_served(client, job, rows, json_wanted=False)
    stands, command = capsys.readouterr().err.splitlines()[1:]
    assert not missing(stands, "r32@prod", "nothing", "rank 32 is over 16", "r32@sha256:ab")
    assert command.endswith(": trivium models alias r32@prod sha256:ab")


ESTIMATE = JobEstimate(
    tokens=24580,
    seconds=90.0,
    memory_bytes=3 << 29,
    steps=100,
    trainable_parameters=4_884_480,
    version_bytes=19 << 20,
    memory_parts_bytes={"base": 1 << 30, "optimizer": 1 << 29},
    fits=True,
    warnings=("3 rows will be cut",),
    tokens_per_second=273.0,
    settings=TrainingSettings(),
)


def test_an_estimate_is_told_with_the_arithmetic_of_its_memory() -> None:
    work, memory, weights, warning = estimate_lines(ESTIMATE)
    assert not missing(work, "100 steps", "24580 tokens", "1:30", "273")
    assert "1.5 GiB = base 1.0 GiB + optimizer 512 MiB" in memory
    assert not missing(weights, "4,884,480", "19 MiB")
    assert warning == "warning: 3 rows will be cut"
    unfit = estimate_lines(replace(ESTIMATE, fits=False))
    assert len(unfit) == 5
    assert "fit" in unfit[-1]
    rough = estimate_lines(replace(ESTIMATE, tokens_per_second=0.0))[0]
    assert not missing(rough, "1:30", "rough")
    unknown = estimate_lines(replace(ESTIMATE, tokens_per_second=0.0, seconds=0.0))[0]
    assert not missing(unknown, "100 steps", "24580 tokens")
    assert ":" not in unknown


def test_what_the_check_warned_of_an_estimate_does_not_warn_of_again(capsys: pytest.CaptureFixture[str]) -> None:
    say_estimate(ESTIMATE, json_wanted=False, told=ESTIMATE.warnings)
    assert "warning" not in capsys.readouterr().out
    say_estimate(ESTIMATE, json_wanted=True, told=ESTIMATE.warnings)
    assert json.loads(capsys.readouterr().out)["estimate"]["warnings"] == list(ESTIMATE.warnings)
    say_estimate(ESTIMATE, json_wanted=False)
    assert "warning: 3 rows will be cut" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "learned"),
    [
        ("chat", ("12 tokens", "9")),
        ("records", ("--recipe", "9")),
    ],
)
def test_of_records_it_is_not_said_that_nothing_is_learned(
    kind: str, learned: tuple[str, ...], rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = Dataset("pairs", 1, "sha256:ab", "pairs.jsonl", kind, 2, 30, 20, 12, 9, None)
    client = cast("Trivium", SimpleNamespace(data=SimpleNamespace(upload=lambda file, progress: stored)))
    uploaded(client, rows, json_wanted=False)
    assert not missing(capsys.readouterr().out.splitlines()[1], *learned)


def test_rows_that_are_refused_stand_in_a_table_with_how_many_there_are_besides() -> None:
    violations = [FieldViolation(f"line {line}, prompt", "is empty") for line in range(1, 31)]
    violations[1] = FieldViolation("line 2", "is no JSON")
    variables = {"count": "45", "sha256": "ab" * 32}
    error = InvalidRequestError("…", reason="DATASET_MALFORMED", violations=tuple(violations), variables=variables)
    lines = rows_refused(error)
    assert lines[0].split() == ["line", "field", "problem"]
    assert lines[1].split() == ["1", "prompt", "is", "empty"]
    assert lines[2].split() == ["2", "is", "no", "JSON"]
    assert len(lines) == 22
    assert not missing(lines[-1], "25", f"trivium data problems sha256:{'ab' * 32}")
    assert not missing(said_of_rows(error), "45")
    bare = InvalidRequestError("…", reason="DATASET_MALFORMED")
    assert (said_of_rows(bare), rows_refused(bare)) == ("…", [])


def test_what_is_wrong_with_a_file_as_a_whole_is_said_once_and_in_no_table() -> None:
    whole = (FieldViolation("file", "the file holds no row"),)
    error = InvalidRequestError("No row.", reason="DATASET_MALFORMED", violations=whole, variables={"count": "1"})
    assert (said_of_rows(error), rows_refused(error)) == ("No row.", [])
